"""What holds for every public corpus: exact texts, order, Kaldi's checks, telling errors."""

from pathlib import Path

import pytest

from espnet_blora.data import check
from espnet_blora.data.prepare import prepare
from espnet_blora.data.records import Ledger
from espnet_blora.data.registry import get_corpus
from tests.data.layouts import (
    aishell,
    ascend,
    commonvoice,
    cs_fleurs,
    fleurs,
    librispeech,
    mgb2,
    read,
    talcs,
)

LAYOUTS = {
    "aishell": aishell,
    "ascend": ascend,
    "commonvoice": commonvoice,
    "cs_fleurs": cs_fleurs,
    "fleurs": fleurs,
    "librispeech": librispeech,
    "mgb2": mgb2,
    "talcs": talcs,
}


@pytest.fixture(scope="module", params=LAYOUTS)
def laid_out(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    return get_corpus(request.param), LAYOUTS[request.param].make(root)


def test_utterances_are_exactly_those_laid_out(laid_out):
    corpus, layout = laid_out
    sets, ledger = read(corpus, layout)
    lost = 0
    for name, utterances in sets.items():
        there = [u for u in utterances if u.audio.is_file()]
        lost += len(utterances) - len(there)
        assert {u.id: u.text for u in there} == layout.texts[name]
        assert {u.id: u.language for u in there} == layout.languages[name]
        assert len(there) == len(layout.texts[name]) >= 1
        for utterance in utterances:
            assert utterance.id.startswith(f"{utterance.speaker}-")
            assert Path(utterance.where.rpartition(":")[0]).is_file()
        by_speaker = sorted(utterances, key=lambda u: (u.speaker, u.id))
        assert [u.id for u in by_speaker] == sorted(u.id for u in utterances)
    skips = {**ledger.counts(), **({"no audio": lost} if lost else {})}
    skips.pop("language unknown to Whisper", None)
    assert skips == layout.skips
    assert lost == 0 or layout.skips["no audio"] == lost


def test_order_does_not_depend_on_directory_listings(laid_out, request):
    corpus, layout = laid_out
    before = read(corpus, layout)
    request.getfixturevalue("shuffled_listings")
    after = read(corpus, layout)
    assert after[0] == before[0]
    assert (after[1].skips, after[1].notes) == (before[1].skips, before[1].notes)


def test_kaldi_accepts_what_is_prepared(laid_out, tmp_path, kaldi_says):
    corpus, layout = laid_out
    where = (tmp_path / "data", tmp_path / "audio")
    options = dict(layout.options)
    # the copies lack some audio on purpose
    rest = {"prefix": "x_", "max_lost": 1.0}
    summary = prepare(corpus, layout.root, list(layout.texts), *where, options, **rest)
    for name, texts in layout.texts.items():
        directory = tmp_path / "data" / f"x_{name}"
        assert kaldi_says(directory) == ""
        lines = (directory / "text").read_text(encoding="utf-8").splitlines()
        assert dict(line.split(" ", 1) for line in lines) == texts
    assert [s.utterances for s in summary.sets] == [len(texts) for texts in layout.texts.values()]
    again = prepare(corpus, layout.root, list(layout.texts), *where, options, **rest)
    assert all(s.unchanged for s in again.sets)


def test_the_folder_is_found_or_the_message_says_what_was_looked_for(laid_out, tmp_path):
    corpus, layout = laid_out
    found = corpus.find(layout.root)
    assert corpus.find(found) == found
    with pytest.raises(FileNotFoundError, match="holds none of .*; give|holds none of .*fetch"):
        corpus.find(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such directory"):
        corpus.find(tmp_path / "nowhere")


def test_a_set_that_is_unknown_or_absent_is_named(laid_out, tmp_path):
    corpus, layout = laid_out
    with pytest.raises(ValueError, match=f"{corpus.name} .*moon.*{min(layout.texts)}"):
        prepare(corpus, layout.root, ["moon"], tmp_path, tmp_path, layout.options)
    for absent in set(corpus.sets) - set(layout.texts):
        with pytest.raises(FileNotFoundError, match=absent.replace("_", ".")):
            corpus.read(corpus.find(layout.root), [absent], Ledger(), layout.options)


def test_inspection_counts_what_can_be_used(laid_out):
    corpus, layout = laid_out
    items = {i.what: i for i in check.check(corpus, layout.root, layout.options)}
    for name in corpus.sets:
        if name not in layout.texts:
            assert items[name].ok is None
            assert "not there" in items[name].found or "no folder of" in items[name].found
            continue
        assert items[name].found.startswith(f"{len(layout.texts[name])} utterances")
        published = corpus.sets[name].utterances
        assert items[name].ok is (None if published is None else False)
        if published:
            assert f"{published:,} utterances" in items[name].expected
    reasons = " ".join(item.found for item in items.values())
    assert all(reason in reasons for reason in layout.skips)
    assert check.check(corpus, layout.root, layout.options)[0].what == "folder"


def test_options_are_documented_and_checked(laid_out):
    corpus, layout = laid_out
    free = {"locale", "lang", "language", "pair", "random_idxes", "unpack", "hours"}
    extra = {"subset": "cl_masr"} if corpus.name == "commonvoice" else {}
    for option in set(corpus.options) - free:
        with pytest.raises(ValueError, match=f"option {option}.*zzz"):
            read(corpus, layout, **{**extra, option: "zzz"})
    assert all(corpus.options.values())
