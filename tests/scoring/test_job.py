"""Parts of a score that add up to it, a system beside a baseline, and jiwer beside both."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.scoring import score
from espnet_blora.scoring.job import Job, against_jiwer, by_group, compare, run
from espnet_blora.scoring.modes import MODES, combinations

TEXT = st.lists(st.sampled_from(["a", "b", "好", "你"]), max_size=4).map(" ".join)
ROWS = st.dictionaries(
    st.text("uvw", min_size=1),
    st.tuples(TEXT, st.none() | TEXT, st.sampled_from("xyz")),
    min_size=1,
)


@given(ROWS)
def test_parts_add_up_to_the_whole(rows):
    ref = {k: r for k, (r, _, _) in rows.items()}
    hyp = {k: h for k, (_, h, _) in rows.items() if h is not None}
    whole = score(ref, hyp, missing_as_empty=True)
    parts = by_group(whole, {k: g for k, (_, _, g) in rows.items()})
    assert list(parts) == sorted({g for _, _, g in rows.values()})
    for name in ("hits", "substitutions", "deletions", "insertions", "tokens", "errors"):
        assert sum(row[name] for row in parts.values()) == getattr(whole.total, name)
    assert sum(row["utterances"] for row in parts.values()) == len(rows)
    for name, row in parts.items():
        ids = [k for k, (_, _, g) in rows.items() if g == name]
        part = score({k: ref[k] for k in ids}, {k: hyp[k] for k in ids if k in hyp},
                     missing_as_empty=True)  # fmt: skip
        assert row["rate"] == part.rate and (row["interval_95"] is None) == (part.interval is None)


def test_utterances_without_a_group_are_named():
    made = score({"a": "x", "b": "y", "c": "z"}, {"a": "x", "b": "y", "c": "z"})
    with pytest.raises(ValueError, match=r"^no group .* for 2 of 3 utterances: b, c"):
        by_group(made, {"a": "s1", "c": "", "d": "s2"})


IDS = [f"{speaker}{n:02d}" for speaker in "abcdefgh" for n in range(10)]
REF = dict.fromkeys(IDS, "one two three four")


def heard(wrong):
    return score(REF, {k: "one two three" if k in wrong else REF[k] for k in IDS})


def test_a_better_system():
    ours, theirs = heard(set(IDS[::8])), heard(set(IDS[::2]))
    found = compare(ours, theirs)
    assert (found.errors, found.baseline_errors, found.tokens) == (10, 40, 320)
    assert found.difference == pytest.approx(-30 / 320)
    assert found.interval_95.low < found.difference < found.interval_95.high < 0
    assert found.probability_better > 0.999
    back = compare(theirs, ours)
    assert back.difference == -found.difference and back.probability_better < 0.001


def test_a_difference_of_one_speaker_is_no_difference_between_speakers():
    ours, theirs = heard(set()), heard({k for k in IDS if k[0] == "a"})
    assert compare(ours, theirs).interval_95.high < 0
    named = tuple(replace(u, speaker=u.id[0]) for u in ours.utterances)
    found = compare(replace(ours, utterances=named), theirs)
    assert found.interval_95.high > 0 and found.interval_95.basis == "8 spk., few"
    assert 0.7 < found.probability_better < 0.9


def test_equal_systems_and_single_utterances():
    same = compare(heard(set(IDS[:4])), heard(set(IDS[:4])))
    assert same.difference == 0 == same.interval_95.low == same.interval_95.high
    assert same.probability_better == 0.5
    one = score({"a": "x"}, {"a": "y"})
    assert compare(one, one).interval_95 is None and compare(one, one).probability_better is None
    nothing = score({"a": "", "b": ""}, {"a": "y", "b": ""})
    assert compare(nothing, nothing).difference is None


SIDES = st.dictionaries(st.text("uvw", min_size=1), st.tuples(TEXT, TEXT), min_size=1)


@given(SIDES, st.sampled_from(sorted(MODES)))
def test_jiwer_finds_what_we_find(sides, mode):
    ref, hyp = ({key: pair[side] for key, pair in sides.items()} for side in (0, 1))
    for how in combinations(mode):
        result = run(Job(ref, hyp), how)
        assert result.problems == []
        own = result.score.total
        assert result.jiwer == {"tokens": own.tokens, "errors": own.errors, "problems": []}


def test_where_jiwer_differs_it_is_a_problem():
    pairs = [(["a", "b"], ["a"]), ([], ["c"])]
    assert against_jiwer(pairs, 2, 2)["problems"] == []
    problems = against_jiwer(pairs, 3, 1)["problems"]
    assert len(problems) == 2 and "2 tokens, we 3" in problems[0] and "2 errors" in problems[1]
    assert against_jiwer([], 0, 0) == {"tokens": 0, "errors": 0, "problems": []}


def test_missing_hypotheses_are_empty_for_all_scorers():
    job = Job({"a": "x y", "b": "z"}, {"b": "z"}, missing_as_empty=True)
    assert run(job, MODES["default"]).jiwer["errors"] == 2
