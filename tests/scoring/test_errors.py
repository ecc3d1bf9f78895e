"""Error counts against a brute-force edit distance and against jiwer."""

import tracemalloc
from functools import cache

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.scoring import Counts, Interval, SetScore, align, score
from espnet_blora.scoring.modes import tokeniser
from espnet_blora.text import mixed_tokens
from espnet_blora.utils.keyed import KeyedText

TOKENS = st.lists(st.sampled_from(["a", "b", "c", "好", "你"]), max_size=6)
WORDS = st.lists(st.sampled_from("abcd"), max_size=8)
TEXT = TOKENS.map(" ".join)
PAIRS = st.dictionaries(
    st.text("uvw123", min_size=1, max_size=4), st.tuples(TEXT, TEXT), min_size=1
)


def brute_force(ref, hyp):
    """The edit distance by trying everything, from its definition."""

    @cache
    def distance(i, j):
        if i == len(ref) or j == len(hyp):
            return len(ref) - i + len(hyp) - j
        return min(
            distance(i + 1, j) + 1,
            distance(i, j + 1) + 1,
            distance(i + 1, j + 1) + (ref[i] != hyp[j]),
        )

    return distance(0, 0)


@given(TOKENS, TOKENS)
def test_errors_are_the_edit_distance(ref, hyp):
    result = score({"u": " ".join(ref)}, {"u": " ".join(hyp)}, "mer", "none")
    assert result.total.errors == brute_force(tuple(ref), tuple(hyp))
    assert result.total.tokens == len(ref)
    assert result.total.hits + result.total.substitutions + result.total.insertions == len(hyp)


@given(WORDS.filter(len), WORDS)
def test_counts_of_one_script_are_those_of_jiwer(ref, hyp):
    ours = score({"u": " ".join(ref)}, {"u": " ".join(hyp)}, "wer", "none").total
    theirs = jiwer.process_words(" ".join(ref), " ".join(hyp))
    assert ours == Counts(theirs.hits, theirs.substitutions, theirs.deletions, theirs.insertions)


@given(PAIRS)
def test_scripts_add_up_to_the_total(pairs):
    result = score({k: r for k, (r, _) in pairs.items()}, {k: h for k, (_, h) in pairs.items()})
    assert sum(result.by_script.values(), Counts()) == result.total
    assert result.han_kana + result.rest == result.total
    assert sum(u.errors for u in result.utterances) == result.total.errors
    assert sum(u.tokens for u in result.utterances) == result.total.tokens


@given(pairs=PAIRS)
def test_scores_of_parts_add_up_and_survive_a_file(tmp_path_factory, pairs):
    ref = {k: r for k, (r, _) in pairs.items()}
    hyp = {k: h for k, (_, h) in pairs.items()}
    whole = score(ref, hyp)
    parts = [score({k: ref[k]}, {k: hyp[k]}) for k in ref]
    utterances = tuple(u for part in parts for u in part.utterances)
    assert sorted(utterances, key=lambda u: u.id) == list(whole.utterances)
    assert sum((part.total for part in parts), Counts()) == whole.total
    assert sorted(remark for part in parts for remark in part.remarks) == list(whole.remarks)
    path = tmp_path_factory.mktemp("score") / "score.json"
    whole.save(path)
    assert SetScore.load(path) == whole


@given(TOKENS, TOKENS)
def test_alignment_spells_both_sides(ref, hyp):
    rows = align(ref, hyp)
    assert [a for _, a, _ in rows if a is not None] == ref
    assert [b for _, _, b in rows if b is not None] == hyp
    assert sum(name != "hit" for name, _, _ in rows) == brute_force(tuple(ref), tuple(hyp))
    assert all((a == b) == (name == "hit") for name, a, b in rows)


def test_hand_counted():
    ref = {"u1": "我 要 买 iPhone 手机", "u2": "open the door", "u3": "Yes."}
    hyp = {"u2": "open door", "u1": "我要买 phone 手", "u3": "oh yes"}
    result = score(ref, hyp)
    # u1: iphone -> phone, 机 lost; u2: the lost; u3: oh put in
    assert result.total == Counts(hits=7, substitutions=1, deletions=2, insertions=1)
    assert result.rate == pytest.approx(4 / 10)
    assert result.by_script == {"Han": Counts(4, 0, 1, 0), "Latin": Counts(3, 1, 1, 1)}
    assert result.han_kana.rate == pytest.approx(1 / 5)
    assert result.rest.rate == pytest.approx(3 / 5)
    assert result.wrong_utterances == 3
    counted = [(u.id, u.errors, u.tokens) for u in result.utterances]
    assert counted == [("u1", 2, 6), ("u2", 1, 3), ("u3", 1, 1)]


def test_pairs_by_id_and_not_by_line():
    ref = {"a": "one", "b": "two"}
    assert score(ref, dict(reversed(list(ref.items())))).total.errors == 0


@pytest.mark.parametrize(
    ("hyp", "poi", "counts"),
    [
        ("我要 big apple 吃", "rest", Counts(2, 0, 0, 0)),
        ("我要 big apples 吃", "rest", Counts(1, 1, 0, 0)),
        ("我要 apple 吃", "rest", Counts(1, 0, 1, 0)),
        ("你要 big apple", "rest", Counts(2, 0, 0, 0)),  # errors elsewhere do not count
        ("我要 very big apple 吃", "rest", Counts(2, 0, 0, 1)),  # stands before a point
        (
            "我要 big apple 吃 now",
            "rest",
            Counts(2, 0, 0, 0),
        ),  # after the last token, which is no point
        ("我要 big apple 吃 now", "han_kana", Counts(3, 0, 0, 1)),
        ("我要 big 吃", "Latin", Counts(1, 0, 1, 0)),
    ],
)
def test_pier(hyp, poi, counts):
    assert score({"u": "我要 big apple 吃"}, {"u": hyp}, poi=poi).pier == counts


PIER = {
    # reference, hypothesis, points, [H, S, D, I]; worked out by hand
    "the end counts where the last token is a point": (
        "我 买 apple", "我 买 apple pie now", "rest", (1, 0, 0, 2)),
    "the end does not count where it is none":
        ("apple 买 我", "apple 买 我 pie", "rest", (1, 0, 0, 0)),
    "an inserted token counts where it stands, not for what it is": (
        "我 apple 买", "我 很 apple 买", "rest", (1, 0, 0, 1)),
    "before a token that is no point it does not count":
        ("我 apple", "so 我 apple", "rest", (1, 0, 0, 0)),
    "nothing heard": ("我 买 two apples", "", "rest", (0, 0, 2, 0)),
    "a number is a point of the rest": ("我 买 3 个", "我 买 三 个", "rest", (0, 1, 0, 0)),
    "a number belongs to no script": ("我 买 3 个 x", "我 买 三 个 x", "Latin", (1, 0, 0, 0)),
    "letters of any script are letters": ("我 去 café", "我 去 cafe", "rest", (0, 1, 0, 0)),
    "points of one script":
        ("انا رحت ال office امبارح", "انا رحت لل office", "Latin", (1, 0, 0, 0)),
    "a word of two scripts belongs to one": ("انا الmeeting", "انا meeting", "Latin", (0, 1, 0, 0)),
    "no point in the utterance": ("我 买 了", "他 了", "rest", (0, 0, 0, 0)),
    "nothing but points": ("the red apple", "red pear", "rest", (0, 0, 0, 0)),
    "nothing but points of two scripts": ("open 3 doors", "open 4 doors", "rest", (0, 0, 0, 0)),
    "an empty reference": ("", "apple 我", "rest", (0, 0, 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", PIER)
def test_pier_by_hand(name):
    ref, hyp, poi, counts = PIER[name]
    result = score({"u": ref}, {"u": hyp}, poi=poi)
    assert result.pier == result.utterances[0].pier == Counts(*counts)


RANGES = {
    # reference, hypothesis, points, errors at points: chosen, fewest, most
    "一 is inserted before or after the point": ("a 一 二", "a 三 一 二", "rest", 0, 0, 0),
    "before the point, or at the end": ("一 a", "一 a a", "rest", 1, 1, 1),
    "the same word again, before the point or before 一": ("a 一", "a a 一", "rest", 0, 0, 1),
    "a point is lost, or replaced": ("一 a", "二", "rest", 1, 1, 1),
    "which of the two was replaced": ("a 一", "b", "rest", 1, 1, 1),
    "which of the two is not there": ("a 一", "二", "rest", 1, 1, 1),
    "two places changed": ("a 一", "一 a", "rest", 1, 1, 1),
    "nothing heard": ("a 一 b", "", "rest", 2, 2, 2),
    "not switched": ("a b", "c", "rest", 0, 0, 0),
}


@pytest.mark.parametrize("name", RANGES)
def test_range_of_pier_by_hand(name):
    ref, hyp, poi, *expected = RANGES[name]
    (u,) = score({"u": ref}, {"u": hyp}, poi=poi).utterances
    chosen, low, high = expected
    assert u.pier.errors == chosen and u.pier_range == ((low, high) if low < high else None)


def test_errors_on_the_embedded_language_have_insertions_of_their_own_script():
    ref = {"a": "我 要 apple", "b": "all english"}
    result = score(ref, {"a": "我 要 big 很 apple", "b": "no"})
    assert result.pier == Counts(1, 0, 0, 2) and result.pier_range == Interval(2.0, 2.0)
    assert result.embedded == Counts(1, 0, 0, 1)
    result = score(ref, {"a": "我 要 很 大 apple now", "b": "no"})
    assert result.pier == Counts(1, 0, 0, 3) and result.embedded == Counts(1, 0, 0, 1)
    assert score(ref, {"a": "", "b": ""}, poi="han_kana").embedded == Counts(0, 0, 2, 0)


def test_pier_of_a_set_is_errors_over_points():
    ref = {"a": "我 买 apple pie", "b": "吃 lunch", "c": "all english"}
    result = score(ref, {"a": "我 买 apple", "b": "吃 launch time", "c": "no"})
    assert result.pier == Counts(1, 1, 1, 1) and result.pier.rate == 1.0  # 3 errors at 3 points


def test_pier_looks_at_switched_utterances_only():
    result = score({"a": "only english", "b": "只有"}, {"a": "other words", "b": "没"})
    assert result.pier == Counts() and result.pier.rate is None


def test_units():
    ref, hyp = {"u": "你好 abc"}, {"u": "你们 abd"}
    assert score(ref, hyp, "mer").total == Counts(1, 2, 0, 0)
    assert score(ref, hyp, "wer").total == Counts(0, 2, 0, 0)
    assert score(ref, hyp, "cer").total == Counts(3, 2, 0, 0)


def test_normalisation_is_applied_to_both_sides():
    ref, hyp = {"u": "Hello, World"}, {"u": "hello world!"}
    assert score(ref, hyp).total.errors == 0
    assert score(ref, hyp, normalisation="none").total.errors == 2


def test_empty_references_are_counted_and_named():
    result = score({"a": "", "b": "x y", "c": "z"}, {"a": "p q", "b": "", "c": "z"})
    assert result.total == Counts(1, 0, 2, 2)
    assert result.empty_references == ("a",) and result.empty_hypotheses == ("b",)
    alone = score({"a": "..."}, {"a": "p"})
    assert alone.total == Counts(insertions=1) and alone.rate is None


@pytest.mark.parametrize(
    ("hyp", "message"),
    [
        ({"a": "x"}, "1 of 2 references have no hypothesis: b"),
        ({"a": "x", "b": "y", "z": ""}, "1 hypotheses have no reference: z"),
        ({"a": "x", "B": "y"}, "differ by case only: b"),
        ({}, "2 of 2 references have no hypothesis: a, b"),
    ],
)
def test_ids_that_do_not_match_are_named(hyp, message):
    with pytest.raises(ValueError, match=message):
        score({"a": "x", "b": "y"}, hyp)


def test_missing_hypotheses_as_empty_only_on_request():
    result = score({"a": "x", "b": "y z"}, {"a": "x"}, missing_as_empty=True)
    assert result.total == Counts(1, 0, 2, 0)
    assert result.missing_as_empty == ("b",)


def test_no_text_stays_in_memory(tmp_path):
    lines = {f"u{n}": f"{'word ' * 1000}{n}\n" for n in range(300)}  # 1.5 MB a side
    for name in ("ref", "hyp"):
        (tmp_path / name).write_text("".join(f"{key} {text}" for key, text in lines.items()))
    sides = KeyedText(tmp_path / "ref"), KeyedText(tmp_path / "hyp")
    tracemalloc.start()
    try:
        result = score(*sides)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.total.hits == 300 * 1001 and result.total.errors == 0
    assert peak < 600_000


def test_the_tokens_that_are_compared():
    cut = tokeniser("mer", "basic")
    assert (cut("Hi 你好."), cut("")) == (["hi", "你", "好"], [])
    with pytest.raises(ValueError, match="unit 'x' is unknown"):
        tokeniser("x", "basic")


def test_many_different_tokens_are_forgotten_in_time(monkeypatch):
    monkeypatch.setattr("espnet_blora.scoring.alignment._MOST_CODES", 4)
    ref = {f"u{n}": f"a{n} b{n} 好 c{n}" for n in range(50)}
    hyp = {f"u{n}": f"a{n} x{n} 好 c{n + 1}" for n in range(50)}
    assert score(ref, hyp).total == Counts(100, 100)


def test_nothing_to_score_and_unknown_names():
    with pytest.raises(ValueError, match="no reference"):
        score({}, {})
    with pytest.raises(ValueError, match="unit 'ter' is unknown"):
        score({"a": "x"}, {"a": "x"}, "ter")
    with pytest.raises(ValueError, match="points of interest 'latin' are unknown"):
        score({"a": "x"}, {"a": "x"}, poi="latin")
    with pytest.raises(ValueError, match="normalisation 'x' is unknown"):
        score({"a": "x"}, {"a": "x"}, "mer", "x")


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_can_be_scored(ref, hyp):
    result = score({"u": ref}, {"u": hyp}, normalisation="none")
    assert result.total.tokens == len(mixed_tokens(ref))
