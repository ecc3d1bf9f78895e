"""Alignments: complete, optimal, and readable in a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.scoring import align
from espnet_blora.scoring.alignment import Codes, columns, confusions, view

TOKENS = st.lists(st.sampled_from(["a", "word", "好", "你", "e\u0301", "नमस्ते"]), max_size=12)


@given(TOKENS, TOKENS, st.integers(8, 40))
def test_view_holds_every_token_in_its_column(ref, hyp, width):
    rows = align(ref, hyp)
    text = view(rows, width)
    lines = text.split("\n")
    heads = {head: [x[5:] for x in lines if x.startswith(head)] for head in ("REF:", "HYP:")}
    assert [t for x in heads["REF:"] for t in x.split() if t != "*"] == ref
    assert [t for x in heads["HYP:"] for t in x.split() if t != "*"] == hyp
    for above, below in zip(*heads.values(), strict=True):
        pairs = list(zip(above.split(), below.split(), strict=True))
        assert all(columns(x) <= width - 5 for x in (above, below)) or len(pairs) == 1
        starts = [0]
        for pair in pairs:
            starts.append(starts[-1] + max(map(columns, pair)) + 1)
        for side in (above, below):
            at = [
                columns(side[:i])
                for i in range(len(side))
                if side[i] != " " and side[:i][-1:] in ("", " ")
            ]
            assert at == starts[:-1]
    signs = [s for x in lines if x.startswith("ERR:") for s in x[5:].split()]
    assert signs == [name[0].upper() for name, _, _ in rows if name != "hit"]


def test_view_by_hand():
    rows = [("hit", "我", "我"), ("hit", "要", "要"), ("del", "big", None)]
    rows += [("sub", "apple", "apples"), ("hit", "吃", "吃"), ("ins", None, "饭")]
    rows += [("hit", "了", "了")]
    assert view(rows, 80).split("\n") == [
        "REF: 我 要 big apple  吃 *  了",
        "HYP: 我 要 *   apples 吃 饭 了",
        "ERR:       D   S         I",
    ]
    wrapped = view(rows, 20).split("\n")
    assert wrapped[0] == "REF: 我 要 big" and wrapped[3] == ""
    assert wrapped[4:7] == ["REF: apple  吃 *  了", "HYP: apples 吃 饭 了", "ERR: S         I"]


def test_an_equal_block_has_no_line_of_errors():
    assert view(align(["a"], ["a"])) == "REF: a\nHYP: a"
    assert view([]) == "REF:\nHYP:"


def test_nothing_in_a_token_moves_the_cursor():
    text = view(align(["a\x1bb", "c"], ["a\x9b", "c"]))
    assert text == "REF: a<u001b>b c\nHYP: a<u009b>  c\nERR: S"


WIDTHS = {
    "abc": 3, "好a": 3, "e\u0301": 1, "ｱ": 1, "ア": 2, "Ａ": 2, "नमस्ते": 4, "a\u200db": 2, "한": 2,
    "": 0, "é": 1, "…": 1,
}  # fmt: skip


@pytest.mark.parametrize(("text", "wide"), WIDTHS.items())
def test_columns(text, wide):
    assert columns(text) == wide


def test_most_frequent_confusions():
    pairs = [("a b c", "a x c d"), ("b", "x"), ("b c", "b"), ("b q", "z q")]
    found = confusions((align(r.split(), h.split()) for r, h in pairs), most=2)
    assert found["sub"] == [(2, "b", "x"), (1, "b", "z")]
    assert found["del"] == [(1, "c", "")]
    assert found["ins"] == [(1, "", "d")]


def test_long_sequences_of_many_different_tokens():
    ref = [f"w{n}" for n in range(70_000)]  # more than fit below the surrogates
    hyp = [*ref[:60_000], "other", *ref[60_001:]]
    assert [row for row in align(ref, hyp) if row[0] != "hit"] == [("sub", "w60000", "other")]


def test_codes_forget_when_there_are_many(monkeypatch):
    monkeypatch.setattr("espnet_blora.scoring.alignment._MOST_CODES", 3)
    codes = Codes()
    assert codes.spell("abca") == "\0\1\2\0"
    codes.forget()
    assert len(codes) == 3
    codes.spell("d")
    codes.forget()
    assert codes.spell("d") == "\0"
