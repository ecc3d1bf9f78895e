"""What holds for every corpus that has a synthetic copy: one battery, no exceptions."""

import contextlib
import importlib
import importlib.util

import pytest

from espnet_blora.data import check, clips, kaldi
from espnet_blora.data.prepare import prepare
from espnet_blora.data.records import Ledger
from espnet_blora.data.registry import CORPORA, get_corpus
from espnet_blora.utils.keyed import read_keyed

LAYOUTS = {
    name: f"tests.data.layouts.{name}"
    for name, module in CORPORA.items()
    if importlib.util.find_spec(module) and importlib.util.find_spec(f"tests.data.layouts.{name}")
}


def test_there_are_corpora_to_look_at():
    assert len(LAYOUTS) >= 10


@pytest.fixture(params=LAYOUTS, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def layout(name, tmp_path_factory):
    folder = tmp_path_factory.mktemp(name)
    return importlib.import_module(LAYOUTS[name]).make(folder / "corpus")


def sets_of(layout, name):
    """The sets that were laid out; a corpus that splits what it finds has them all."""
    sets = get_corpus(name).sets
    return [one for one in layout.texts if one in sets] or list(sets)


def expected(by_set, one):
    """What was laid out for a set; for a corpus that splits what it finds, for all of them."""
    return dict(by_set.get(one) or {k: v for keyed in by_set.values() for k, v in keyed.items()})


def run(layout, name, folder):
    """Prepare all sets with paths relative to a folder of its own."""
    folder.mkdir(exist_ok=True)
    with contextlib.chdir(folder):
        # a synthetic copy is made of edge cases: many of its utterances are broken on purpose
        return prepare(
            get_corpus(name),
            layout.root,
            sets_of(layout, name),
            "data",
            "clips",
            layout.options,
            max_lost=1.0,
        )


@pytest.fixture(scope="module")
def prepared(name, layout, tmp_path_factory):
    """A folder in which the corpus has been prepared, and the summary of that."""
    folder = tmp_path_factory.mktemp("prepared") / "one"
    return folder, run(layout, name, folder)


def test_prepared_as_laid_out_and_kaldi_agrees(layout, prepared, monkeypatch, kaldi_says):
    folder, summary = prepared
    monkeypatch.chdir(folder)
    written = set()
    for one in summary.sets:
        texts = expected(layout.texts, one.name)
        found = kaldi.validate(one.directory, mono_16k=True)
        assert found.utterances == one.utterances > 0
        assert found.seconds == pytest.approx(one.seconds)
        text = read_keyed(one.directory / "text")
        assert text.items() <= texts.items()
        codes = read_keyed(one.directory / "utt2lang")
        assert codes.items() <= expected(layout.languages, one.name).items()
        rows = (one.directory / "left_out.tsv").read_text("utf-8").split("\n")
        written |= text.keys() | {row.split("\t")[1] for row in rows if row}
        assert kaldi_says(one.directory) == ""
    assert {key for keyed in layout.texts.values() for key in keyed} <= written


def read(layout, name):
    corpus, ledger = get_corpus(name), Ledger()
    records = corpus.read(corpus.find(layout.root), sets_of(layout, name), ledger, layout.options)
    return records, ledger.skips, ledger.notes


def test_the_same_records_in_the_same_order_for_any_listing(name, layout, request):
    before = read(layout, name)
    request.getfixturevalue("shuffled_listings")
    assert read(layout, name) == before


def test_the_same_bytes_for_any_listing(name, layout, prepared, tree, tmp_path, shuffled_listings):
    run(layout, name, tmp_path / "two")
    found = {path.replace("two", "one", 1): data for path, data in tree(tmp_path / "two").items()}
    assert found == tree(prepared[0])


def test_a_second_run_does_nothing(name, layout, prepared, monkeypatch):
    before = {p: p.stat().st_mtime_ns for p in prepared[0].rglob("*")}
    monkeypatch.setattr(clips, "cut_all", None)
    assert all(one.unchanged for one in run(layout, name, prepared[0]).sets)
    assert {p: p.stat().st_mtime_ns for p in prepared[0].rglob("*")} == before


def test_the_check_of_a_copy_opens_it(name, layout):
    corpus = get_corpus(name)
    items = check.check(corpus, layout.root, layout.options)
    assert len(items) > 1
    assert items[0].ok
    assert corpus.title in check.table(corpus, items)
