"""Texts written for sclite: every hazard spelled out so that it is one word of its own."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.scoring import Counts
from espnet_blora.scoring.sclite import (
    AS_WRITTEN,
    Expected,
    parse_totals,
    run_sclite,
    write_trn,
)
from espnet_blora.scoring.trn import safe_ids, safe_token, trn_line
from tests.scoring.real import HAZARDS, SCLITE, real_sclite


def totals(folder, ref, hyp):
    """sclite's totals of (id -> tokens), written as they must be."""
    rows = ((key, (tokens, hyp[key])) for key, tokens in ref.items())
    write_trn(folder, AS_WRITTEN, rows, Expected())
    return parse_totals(run_sclite(SCLITE, folder, AS_WRITTEN.options))


@real_sclite
@pytest.mark.parametrize("tokens", HAZARDS, ids=lambda t: " ".join(t)[:20])
def test_spelt_hazards_are_counted_right(tmp_path, tokens):
    ref = {"s-1": [*tokens], "s-2": ["p", *tokens, "q"], "s-3": ["x", "y"]}
    same = totals(tmp_path, ref, ref)
    words = 2 * len(tokens) + 4
    assert (same.utterances, same.counts) == (3, Counts(hits=words))
    other = totals(tmp_path, ref, {**ref, "s-2": ["p", *tokens[:-1], "other", "q"]})
    assert other.counts == Counts(hits=words - 1, substitutions=1)


@real_sclite
@pytest.mark.parametrize(
    "tokens", [["{", "b", "c"], ["@"], ["hello;world"], ["a\\b"], ["foo*"], [";;", "a"]]
)
def test_the_hazards_are_real(tmp_path, tokens):
    """As they stand, sclite does not tell these lines from others, or loses words."""
    (tmp_path / "ref.trn").write_text(f"{' '.join(tokens)} z\t(s-1)\nx\t(s-2)\n")
    plain = " ".join(t.replace(";world", "").replace("\\", "").replace("*", "") for t in tokens)
    (tmp_path / "hyp.trn").write_text(f"{plain} z\t(s-1)\nx\t(s-2)\n")
    found = parse_totals(run_sclite(SCLITE, tmp_path, AS_WRITTEN.options))
    differ = plain.split() != tokens
    miscounted = found.counts.tokens != len(tokens) + 2 or found.utterances != 2
    assert miscounted or (differ and found.counts.errors == 0)


@pytest.mark.parametrize(
    "token", ["plain", "a@b.c", "100%", "a/b", "(x)", "<tag>", "x*y", "你", "-"]
)
def test_plain_tokens_are_left_alone(token):
    assert safe_token(token) == token
    assert trn_line(["a", token], "s-1") == f"a {token}\t(s-1)\n"


@pytest.mark.parametrize("tokens", HAZARDS, ids=lambda t: " ".join(t)[:20])
def test_every_hazard_is_spelled_out(tokens):
    spelled = [safe_token(token) for token in tokens]
    assert spelled != tokens
    assert [safe_token(token) for token in spelled if "<" not in token] == [
        token for token in spelled if "<" not in token
    ]


def test_safe_tokens_stay_different():
    tokens = [
        "{",
        "}",
        ";",
        "\\",
        "@",
        "x*",
        "x**",
        "*",
        "**",
        "***",
        "*x",
        "*x*",
        "x",
        "x;",
        "{x",
        "a" * 3001,
        "a" * 3002,
        "你" * 200,
        "你" * 201,
    ]
    assert len({safe_token(token) for token in tokens}) == len(tokens)


PIECES = [*"{};\\@*<>a", "lbrace", "at", "lt", "<at>", "<LT>", "<lt>at>", "u0000", "\x00", "\udcff"]


@given(st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join), max_size=9))
def test_no_two_texts_are_spelt_alike_not_even_in_the_words_of_the_spelling(tokens):
    """Folded, because sclite folds A-Z unless told otherwise."""
    spelt = {safe_token(token).lower() for token in tokens}
    assert len(spelt) == len({token.lower() for token in tokens})
    assert not any(re.search(r"[{};\\\\\x00]|^@$|^\*|\*$", token) for token in spelt)


@pytest.mark.parametrize("token", ["\x00", "a\udcff", "\ud800", "a b", "a\u3000b", "x\x85y"])
def test_what_is_not_text_is_spelled_out(token):
    assert re.fullmatch(r"\w?<u[0-9a-f]{4}>\w?", safe_token(token))


@pytest.mark.parametrize(
    ("ids", "safe"),
    [
        (["a(b"], ["a[b"]),
        (["a b", "a_b"], ["a_b", "a_b.2"]),
        ([""], ["empty"]),
        (["s-A", "s-a"], ["s-A", "s-a.2"]),
        (["a\u3000b"], ["a_b"]),
        (["s-\udcff"], ["s-_"]),
        (["spk-1", "spk-2"], ["spk-1", "spk-2"]),
    ],
)
def test_ids_that_sclite_misreads_get_others(ids, safe):
    assert list(safe_ids(ids).values()) == safe
