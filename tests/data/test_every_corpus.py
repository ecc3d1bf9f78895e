"""What holds for every corpus that has a synthetic copy: one battery, no exceptions."""

import importlib
import importlib.util
from pathlib import Path

import pytest

from espnet_blora.data import check, clips, kaldi
from espnet_blora.data.prepare import prepare
from espnet_blora.data.registry import CORPORA, get_corpus

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


def run(layout, name, folder, monkeypatch):
    """Prepare all sets with paths relative to a folder of its own."""
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    # a synthetic copy is made of edge cases, so many of its utterances are broken on purpose
    return prepare(
        get_corpus(name),
        layout.root,
        list(layout.texts),
        "data",
        "clips",
        layout.options,
        max_lost=1.0,
    )


def test_prepared_as_laid_out_and_kaldi_agrees(name, layout, tmp_path, monkeypatch, kaldi_says):
    summary = run(layout, name, tmp_path / "one", monkeypatch)
    assert [one.name for one in summary.sets] == list(layout.texts)
    for one in summary.sets:
        if not layout.texts[one.name]:
            continue
        found = kaldi.validate(one.directory, mono_16k=True)
        assert found.utterances == one.utterances > 0
        assert found.seconds == pytest.approx(one.seconds)
        text = kaldi.read_keyed(one.directory / "text")
        assert text.items() <= dict(layout.texts[one.name]).items()
        rows = (one.directory / "left_out.tsv").read_text("utf-8").split("\n")
        left_out = {row.split("\t")[1] for row in rows if row}
        assert layout.texts[one.name].keys() - text.keys() <= left_out
        codes = kaldi.read_keyed(one.directory / "utt2lang")
        assert codes.items() <= dict(layout.languages[one.name]).items()
        assert kaldi_says(one.directory) == ""


def test_the_same_bytes_for_any_listing_and_nothing_in_a_second_run(
    name, layout, tmp_path, monkeypatch, tree, request
):
    run(layout, name, tmp_path / "one", monkeypatch)
    request.getfixturevalue("shuffled_listings")
    run(layout, name, tmp_path / "two", monkeypatch)
    assert tree(tmp_path / "one") == {
        path.replace("two", "one", 1): data for path, data in tree(tmp_path / "two").items()
    }
    before = {p: p.stat().st_mtime_ns for p in Path(tmp_path).rglob("*")}
    monkeypatch.setattr(clips, "cut_all", None)
    assert all(one.unchanged for one in run(layout, name, tmp_path / "two", monkeypatch).sets)
    assert {p: p.stat().st_mtime_ns for p in Path(tmp_path).rglob("*")} == before


def test_the_check_of_a_copy_opens_it(name, layout):
    corpus = get_corpus(name)
    items = check.check(corpus, layout.root, layout.options)
    assert len(items) > 1
    assert items[0].ok
    assert corpus.title in check.table(corpus, items)
