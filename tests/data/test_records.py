"""The ledger, and the contract every corpus module keeps."""

import importlib.util

import pytest

from espnet_blora.data.records import Corpus, Ledger
from espnet_blora.data.registry import CORPORA, get_corpus

THERE = [name for name, module in CORPORA.items() if importlib.util.find_spec(module)]


def test_ledger_counts_and_writes_sorted_lines(tmp_path):
    ledger = Ledger()
    ledger.skip("b.txt:3", "s-3", "no audio", "/c/x.flac")
    ledger.note("a.txt:9", "s-1", "malformed bracket repaired", "[lah\tx\n\x07 y")
    ledger.skip("a.txt:1", "", "missing field", "lone \ud800 surrogate")
    ledger.skip("b.txt:4", "s-4", "no audio")
    assert ledger.counts() == {"missing field": 1, "no audio": 2}
    assert ledger.note_counts() == {"malformed bracket repaired": 1}
    ledger.write(tmp_path / "left_out.tsv")
    assert (tmp_path / "left_out.tsv").read_text("utf-8") == (
        "a.txt:1\t\tskip\tmissing field\tlone \\ud800 surrogate\n"
        "a.txt:9\ts-1\tnote\tmalformed bracket repaired\t[lah x y\n"
        "b.txt:3\ts-3\tskip\tno audio\t/c/x.flac\n"
        "b.txt:4\ts-4\tskip\tno audio\t\n"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["left_out.tsv"]
    with pytest.raises(OSError, match=r"left_out.tsv/x.tsv"):
        ledger.write(tmp_path / "left_out.tsv" / "x.tsv")


def test_unknown_corpora_name_near_misses():
    with pytest.raises(ValueError, match="'seem'.*'seame'"):
        get_corpus("seem")
    with pytest.raises(ValueError, match="seame, arzen, fisher"):
        get_corpus("x")


@pytest.mark.parametrize("name", THERE)
def test_every_corpus_is_whole(name):
    corpus = get_corpus(name)
    assert isinstance(corpus, Corpus)
    assert corpus.name == name
    assert corpus.variable.isidentifier() and corpus.variable.isupper()
    assert all("\n" not in line and line for line in (corpus.title, corpus.licence, corpus.obtain))
    assert all(set_name.isidentifier() for set_name in corpus.sets)
    assert all(isinstance(text, str) and text for text in corpus.options.values())


def test_there_are_corpora():
    assert len(THERE) >= 10


@pytest.mark.parametrize("name", THERE)
def test_no_corpus_is_found_in_an_empty_folder(name, tmp_path):
    for path in (tmp_path, tmp_path / "nosuch"):
        with pytest.raises(FileNotFoundError, match=str(path)):
            get_corpus(name).find(path)
