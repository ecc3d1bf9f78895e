"""The bridge to sclite, against the real program where it is here."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_blora.scoring import Counts, sclite, score
from espnet_blora.scoring.job import Job, run
from espnet_blora.scoring.modes import Mode
from espnet_blora.scoring.sclite import (
    Expected,
    NotScored,
    Reading,
    ScliteTotals,
    compare,
    cross_check,
    find_sclite,
    parse_percentages,
    parse_totals,
    run_sclite,
)
from espnet_blora.text import mixed_tokens
from tests.scoring.real import SCLITE, real_sclite


def pairs(ref, hyp):
    """Pair two sides (id -> tokens)."""
    return [(tokens, hyp[key]) for key, tokens in ref.items()]


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
    tokens = ({k: mixed_tokens(t) for k, t in side.items()} for side in (ref, hyp))
    theirs, problems = cross_check(SCLITE, pairs(*tokens), ours.total)
    assert not problems and theirs.counts.errors == ours.total.errors
    assert theirs.wrong_utterances == ours.wrong_utterances


@real_sclite
def test_an_error_more_than_ours_is_explained_by_its_cost():
    """Seven substitutions cost 28 with sclite; 2 of them, 3 deletions and 3 insertions cost 26."""
    ref, hyp = "w2 w2 w0 w2 w3 w2 w4 w4", "w2 w4 w4 w5 w4 w0 w3 w5"
    ours = score({"u": ref}, {"u": hyp}, "wer", "none")
    theirs, problems = cross_check(SCLITE, [(ref.split(), hyp.split())], ours.total)
    assert (ours.total.errors, theirs.counts.errors, theirs.cost) == (7, 8, 26)
    assert not problems
    told = run(Job({"u": ref}, {"u": hyp}, sclite=SCLITE), Mode("wer", "none", "rest", "")).sclite
    assert (told["errors"], told["extra_errors"], told["problems"]) == (8, 1, [])


@real_sclite
@settings(max_examples=40)
@given(
    sides=st.dictionaries(
        st.text(min_size=1, max_size=3),
        st.tuples(
            *[st.lists(st.text(r"aAb{}@;*\/%~-()<>你é", min_size=1, max_size=4), max_size=5)] * 2
        ),
        min_size=1,
        max_size=5,
    )
)
def test_no_text_and_no_id_stops_the_comparison(sides):
    ref, hyp = ({key: pair[side] for key, pair in sides.items()} for side in (0, 1))
    text = [{k: " ".join(t) for k, t in side.items()} for side in (ref, hyp)]
    assert not cross_check(SCLITE, sides.values(), score(*text, "wer", "none").total)[1]


@real_sclite
def test_missing_hypotheses_are_empty():
    job = Job({"a": "x y", "b": "z"}, {"b": "z"}, missing_as_empty=True, sclite=SCLITE)
    told = run(job, Mode("wer", "none", "rest", "")).sclite
    assert told == {"utterances": 2, "tokens": 3, "errors": 2, "extra_errors": 0, "problems": []}


@real_sclite
@pytest.mark.parametrize("size", [1, 7, 8, 1000])
def test_sclite_is_called_for_a_few_tokens_at_a_time(monkeypatch, size):
    monkeypatch.setattr(sclite, "_BATCH", size)
    ref = {str(n): "a b c d".split()[: n % 5] for n in range(23)}
    hyp = {str(n): "a x c d e".split()[: n % 6] for n in range(23)}
    ours = score(*({k: " ".join(t) for k, t in side.items()} for side in (ref, hyp)), "wer", "none")
    theirs, problems = cross_check(SCLITE, pairs(ref, hyp), ours.total)
    assert not problems and theirs.utterances == 23
    assert (theirs.counts.errors, theirs.wrong_utterances) == (
        ours.total.errors,
        ours.wrong_utterances,
    )


def test_sclite_that_fails_is_named(tmp_path):
    program = tmp_path / "sclite"
    program.write_text("#!/bin/sh\necho no space left >&2\nexit 4\n")
    program.chmod(0o755)
    with pytest.raises(NotScored, match="status 4: 'no space left'"):
        run_sclite(program, tmp_path, [])
    program.chmod(0o644)
    with pytest.raises(NotScored, match="sclite cannot be started"):
        run_sclite(program, tmp_path, [])


REPORT = """
       | SPKR   | # Snt # Wrd | Corr    Sub    Del    Ins    Err  S.Err |
       | Sum/Avg|    2      6 | 83.3   16.7    0.0    0.0   16.7   50.0 |
        | Sum  |    2      6 |    5      1      0      0      1      1 |
"""


def test_a_speaker_may_be_called_sum():
    speaker = """
       | Sum    |    1      2 | 50.0   50.0    0.0    0.0   50.0  100.0 |
        | Sum  |    1      2 |    1      1      0      0      1      1 |
"""
    before, _, total = REPORT.rpartition("\n        | Sum")
    report = f"{before}{speaker}        | Sum{total}"
    assert parse_totals(report) == parse_totals(REPORT)


def test_reports_are_read():
    assert parse_totals(REPORT) == ScliteTotals(2, Counts(5, 1, 0, 0), 1)
    assert parse_percentages(REPORT) == "2 6 83.3 16.7 0.0 0.0 16.7 50.0".split()
    assert parse_percentages("nothing") is None
    with pytest.raises(NotScored, match="no totals: 'nothing'"):
        parse_totals("nothing")
    with pytest.raises(NotScored, match="contradicts"):
        parse_totals(REPORT.replace("    5      1 ", "    4      1 "))


EXPECTED = Expected(10, 4, ref_tokens=95, hyp_tokens=95, errors=19, cost=70)
THEIRS = ScliteTotals(10, Counts(80, 10, 5, 5), 4)


def test_expectations_add_up():
    expected = Expected()
    expected.add(["a", "b"], ["a", "b"])
    expected.add(["a", "b", "c"], ["x", "c", "y"])  # one substitution, deletion and insertion
    assert expected == Expected(2, 1, ref_tokens=5, hyp_tokens=5, errors=3, cost=10)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"utterances": 9}, "sclite scored 9 utterances, we 10"),
        ({"wrong_utterances": 5}, "found errors in 5 utterances, we 4"),
        ({"counts": Counts(81, 10, 5, 5)}, "96 reference tokens, we 95"),
        ({"counts": Counts(80, 10, 5, 6)}, "96 hypothesis tokens, we 95"),
        ({"counts": Counts(79, 12, 4, 4)}, "4S + 3D + 3I = 72, we 70"),
        ({"counts": Counts(82, 8, 5, 5)}, "18 errors, fewer than our 19"),
    ],
)
def test_any_difference_that_costs_do_not_explain_is_a_problem(change, problem):
    own = Counts(81, 9, 5, 5)
    assert compare(THEIRS, EXPECTED, own) == []
    assert problem in "; ".join(compare(replace(THEIRS, **change), EXPECTED, own))


def test_a_score_of_other_tokens_is_a_problem():
    assert "94 tokens, not 95" in str(compare(THEIRS, EXPECTED, Counts(80, 9, 5, 5)))


@pytest.mark.parametrize(
    ("options", "splits", "folds", "unknown"),
    [
        ("", False, True, ()),
        ("-e utf-8 -c NOASCII", True, True, ()),
        ("-c NOASCII", False, True, ()),
        ("-s -e utf-8 -O /tmp", False, False, ()),
        ("-e utf-8 -c DH -D", False, True, ("-c DH", "-D")),
        ("-e utf-8 babylon", False, True, ("-e utf-8 babylon",)),
    ],
)
def test_options_say_how_tokens_are_read(options, splits, folds, unknown):
    reading = Reading.parse(options)
    assert (reading.splits, reading.folds, reading.unknown) == (splits, folds, unknown)
    assert reading.options == tuple(options.split())
    assert reading.tokens(["aü"]) == (["a", "ü"] if splits else ["aü"])
    assert reading.tokens(["A"]) == (["a"] if folds else ["A"])


def test_other_encodings_are_refused():
    with pytest.raises(ValueError, match="-e gb"):
        Reading.parse("-e gb")


def test_where_sclite_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(sclite, "_PLACES", (tmp_path / "tools", tmp_path / "debian"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert find_sclite()[0] is None and "make sclite" in find_sclite()[1]
    assert find_sclite("none") == (None, "not asked for")
    for place in ("debian", "tools", "path"):
        program = tmp_path / place / "sclite"
        program.parent.mkdir()
        program.touch()
        assert find_sclite()[0] != program
        program.chmod(0o755)
        assert find_sclite() == (program, "") == find_sclite(str(program))
    with pytest.raises(FileNotFoundError, match="absent"):
        find_sclite("absent")
