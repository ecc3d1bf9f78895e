"""Texts written for sclite: every hazard named, or spelt out so that it is one word of its own."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.scoring import Counts
from espnet_blora.scoring.sclite import run_sclite
from espnet_blora.scoring.trn import safe_token, token_hazard, write_trn
from tests.scoring.real import HAZARDS, SCLITE, real_sclite


@pytest.mark.parametrize("tokens", HAZARDS, ids=lambda t: " ".join(t)[:20])
def test_every_hazard_is_refused_by_name_or_made_harmless(tmp_path, tokens):
    with pytest.raises(ValueError, match="'spk-7'"):
        write_trn(tmp_path / "x.trn", {"spk-7": tokens})
    assert not (tmp_path / "x.trn").exists()
    found = write_trn(tmp_path / "x.trn", {"spk-7": tokens, "spk-8": ["plain"]}, "map")
    assert {hazard.id for hazard in found} == {"spk-7"}
    safe = (tmp_path / "x.trn").read_text().splitlines()[0].split("\t")[0].split()
    assert len(safe) == len(tokens)
    assert not any(token_hazard(token) for token in safe)


def _totals(tmp_path, ref, hyp):
    write_trn(tmp_path / "ref.trn", ref, "map")
    write_trn(tmp_path / "hyp.trn", hyp, "map")
    return run_sclite(SCLITE, tmp_path / "ref.trn", tmp_path / "hyp.trn")


@real_sclite
@pytest.mark.parametrize("tokens", HAZARDS, ids=lambda t: " ".join(t)[:20])
def test_spelt_hazards_are_counted_right(tmp_path, tokens):
    ref = {"s-1": [*tokens], "s-2": ["p", *tokens, "q"], "s-3": ["x", "y"]}
    same = _totals(tmp_path, ref, ref)
    words = 2 * len(tokens) + 4
    assert (same.utterances, same.counts) == (3, Counts(hits=words))
    other = _totals(tmp_path, ref, {**ref, "s-2": ["p", *tokens[:-1], "other", "q"]})
    assert other.counts == Counts(hits=words - 1, substitutions=1)


@real_sclite
@pytest.mark.parametrize(
    "tokens", [["{", "b", "c"], ["@"], ["hello;world"], ["a\\b"], ["foo*"], [";;", "a"]]
)
def test_the_hazards_are_real(tmp_path, tokens):
    """Unguarded, sclite does not tell these lines from others, or loses words: why the guard
    exists."""
    (tmp_path / "r.trn").write_text(f"{' '.join(tokens)} z\t(s-1)\nx\t(s-2)\n")
    plain = " ".join(t.replace(";world", "").replace("\\", "").replace("*", "") for t in tokens)
    (tmp_path / "h.trn").write_text(f"{plain} z\t(s-1)\nx\t(s-2)\n")
    totals = run_sclite(SCLITE, tmp_path / "r.trn", tmp_path / "h.trn")
    differ = plain.split() != tokens
    miscounted = totals.counts.tokens != len(tokens) + 2 or totals.utterances != 2
    assert miscounted or (differ and totals.counts.errors == 0)


@pytest.mark.parametrize(
    "token", ["plain", "a@b.c", "100%", "a/b", "(x)", "<tag>", "x*y", "你", "-"]
)
def test_plain_tokens_are_left_alone(tmp_path, token):
    assert token_hazard(token) is None
    assert write_trn(tmp_path / "x.trn", {"s-1": ["a", token]}) == []
    assert (tmp_path / "x.trn").read_text() == f"a {token}\t(s-1)\n"


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
    assert not any(token_hazard(token) for token in spelt)


@pytest.mark.parametrize("token", ["\x00", "a\udcff", "\ud800", "a b", "a\u3000b", "x\x85y"])
def test_what_is_no_text_is_named_and_spelt(tmp_path, token):
    with pytest.raises(ValueError, match="no UTF-8"):
        write_trn(tmp_path / "x.trn", {"s-1": ["a", token]})
    assert len(write_trn(tmp_path / "x.trn", {"s-1": ["a", token]}, "map")) == 1
    line = (tmp_path / "x.trn").read_text()
    assert re.fullmatch(r"a \w?<u[0-9a-f]{4}>\w?\t\(s-1\)\n", line)
    assert [path.name for path in tmp_path.iterdir()] == ["x.trn"]


@pytest.mark.parametrize("ids", [["a(b"], ["a b"], [""], ["s-A", "s-a"], ["a\u3000b"]])
def test_ids_that_sclite_misreads_are_named(tmp_path, ids):
    with pytest.raises(ValueError, match="utterance '") as error:
        write_trn(tmp_path / "x.trn", {key: ["w"] for key in ids}, "map")
    assert repr(ids[-1]) in str(error.value)
