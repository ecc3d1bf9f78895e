"""The bridge to sclite, against the real program where it is here."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espnet_blora.scoring import Counts, score
from espnet_blora.scoring.sclite import (
    ScliteTotals,
    compare,
    find_sclite,
    parse_percentages,
    parse_totals,
    run_sclite,
    safe_token,
    token_hazard,
    write_trn,
)
from espnet_blora.text import mixed_tokens

TOOLS = Path(__file__).resolve().parents[2] / "tools"
SCLITE = find_sclite([TOOLS / "bin"], [TOOLS / "sctk" / "bin"])
real_sclite = pytest.mark.skipif(
    SCLITE is None, reason="no sclite in tools/sctk/bin or on PATH; `make sclite` gets it"
)

HAZARDS = [
    ["{", "a", "/", "b", "}"],
    ["a", "*x"],
    ["a", "*"],
    ["a", "{", "b"],
    ["M^{ME}"],
    ["x{"],
    ["@"],
    ["a", "@"],
    ["hello;world"],
    ["x;"],
    [";;", "a"],
    [";;a"],
    ["**", "a"],
    ["**a", "b"],
    ["*", "a"],
    ["foo*"],
    ["a", "foo*"],
    ["a\\b"],
    ["\\"],
    ["x\x01y"],
    ["a" * 20000],
    ["a" * 20001, "b"],
]


def _totals(tmp_path, ref, hyp, on_hazard="map"):
    write_trn(tmp_path / "ref.trn", ref, on_hazard)
    write_trn(tmp_path / "hyp.trn", hyp, on_hazard)
    return run_sclite(SCLITE, tmp_path / "ref.trn", tmp_path / "hyp.trn")


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


@real_sclite
@pytest.mark.parametrize("tokens", HAZARDS, ids=lambda t: " ".join(t)[:20])
def test_mapped_hazards_are_counted_right(tmp_path, tokens):
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


@real_sclite
def test_totals_agree_on_realistic_text(tmp_path):
    generator = random.Random(1)
    vocabulary = [
        *"我你他们要去买东西看电影",
        "phone",
        "über",
        "niño",
        "don't",
        "a@b.c",
        "100%",
        "<noise>",
    ]
    ref, hyp = {}, {}
    for n in range(400):
        words = generator.choices(vocabulary, k=generator.randrange(0, 15))
        heard = [w if generator.random() > 0.15 else generator.choice(vocabulary) for w in words]
        heard = [w for w in heard if generator.random() > 0.05]
        ref[f"s{n % 7}-{n:03d}"] = " ".join(words)
        hyp[f"s{n % 7}-{n:03d}"] = " ".join(heard)
    ours = score(ref, hyp, "mer", "none")
    theirs = _totals(
        tmp_path, *({k: mixed_tokens(t) for k, t in side.items()} for side in (ref, hyp)), "reject"
    )
    found = compare(theirs, len(ref), ours.total)
    assert found.agrees, found
    assert theirs.wrong_utterances == ours.wrong_utterances


@real_sclite
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pairs=st.lists(
        st.tuples(
            *[st.lists(st.text(r"ab{}@;*\/%~-()<>你é", min_size=1, max_size=4), max_size=5)] * 2
        ),
        min_size=1,
        max_size=5,
    )
)
def test_hostile_text_is_never_silently_miscounted(tmp_path, pairs):
    ref = {f"s-{n}": r for n, (r, _) in enumerate(pairs)}
    hyp = {f"s-{n}": h for n, (_, h) in enumerate(pairs)}
    theirs = _totals(tmp_path, ref, hyp)
    text = [{k: " ".join(t) for k, t in side.items()} for side in (ref, hyp)]
    ours = score(*text, "wer", "none")
    assert compare(theirs, len(ref), ours.total).problems == ()


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


@pytest.mark.parametrize("ids", [["a(b"], ["a b"], [""], ["s-A", "s-a"], ["a\u3000b"]])
def test_ids_that_sclite_misreads_are_named(tmp_path, ids):
    with pytest.raises(ValueError, match="utterance '") as error:
        write_trn(tmp_path / "x.trn", {key: ["w"] for key in ids}, "map")
    assert repr(ids[-1]) in str(error.value)


REPORT = """
       | SPKR   | # Snt # Wrd | Corr    Sub    Del    Ins    Err  S.Err |
       | Sum/Avg|    2      6 | 83.3   16.7    0.0    0.0   16.7   50.0 |
        | Sum  |    2      6 |    5      1      0      0      1      1 |
"""


def test_reports_are_read():
    assert parse_totals(REPORT) == ScliteTotals(2, Counts(5, 1, 0, 0), 1)
    assert parse_percentages(REPORT) == "2 6 83.3 16.7 0.0 0.0 16.7 50.0".split()
    assert parse_totals("nothing") is None and parse_percentages("nothing") is None
    with pytest.raises(ValueError, match="contradicts"):
        parse_totals(REPORT.replace("    5      1 ", "    4      1 "))


def test_differences_are_named():
    theirs = ScliteTotals(9, Counts(80, 10, 5, 5), 4)
    assert compare(theirs, 9, Counts(81, 9, 5, 5)).extra_errors == 1
    problems = compare(theirs, 10, Counts(90, 10, 5, 6)).problems
    assert len(problems) == 3 and "9 utterances, we 10" in problems[0]
