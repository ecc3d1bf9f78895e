"""Reading confidences, whose mistakes are named by place, and marking tokens as right or wrong."""

import json
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.scoring import score
from espnet_blora.scoring.calibration.words import (
    Recognised,
    confidences_of_tokens,
    label_tokens,
    read_confidences,
)


def line(key="u1", text="go 去 now", words=(("go", 0.9), ("去", 0.7), ("now", 0.5)), **more):
    words = [{"word": w, "confidence": p} for w, p in words]
    return {"utterance": key, "text": text, "words": words, "confidence": 0.8, **more}


def written(tmp_path, *lines):
    path = tmp_path / "words.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines), "utf-8")
    return path


def recognised(*words, text=None):
    text = " ".join(w for w, _ in words) if text is None else text
    return Recognised(text, words, 0.5, {})


def test_a_file_is_read(tmp_path):
    uncertain = {"total": 0.4, "data": 0.3, "model": -1e-9}
    path = written(tmp_path, line(**uncertain), "", line("u0", "", (), **uncertain))
    found = read_confidences(path)
    assert list(found) == ["u1", "u0"] and found.where("u0") == f"{path}:3"
    assert found["u1"].words == (("go", 0.9), ("去", 0.7), ("now", 0.5))
    assert found["u1"].uncertainty == uncertain and found["u1"].confidence == 0.8


def test_a_probability_may_be_off_by_rounding(tmp_path):
    found = read_confidences(written(tmp_path, line("u", "a", [("a", 1.0000001)])))
    assert found["u"].words == (("a", 1.0),)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "a JSON object is expected"),
        ('{"utterance": "u"}', "KeyError('text')"),
        (line(words=[("go", float("nan")), ("去", 1), ("now", 1)]), "'go' must be a finite"),
        (line(words=[("go", 1.2), ("去", 1), ("now", 1)]), "probability, 0 to 1, found 1.2"),
        (line(words=[("go", True), ("去", 1), ("now", 1)]), "finite number, found True"),
        (line(words=[("go", "1"), ("去", 1), ("now", 1)]), "finite number, found '1'"),
        (line(words=[("go", 1.0)]), "do not spell its text 'go 去 now'"),
        (line(total=float("inf")), "total must be a finite number"),
        ({**line(), "confidence": float("nan")}, "confidence of u1 must be"),
        ({**line(), "words": 3}, "TypeError"),
        ({**line(), "text": None}, "text must be a string"),
        (line("u0"), "u0 stands on line 1 already"),
        (line(total=0.5), "uncertainties ['total'], but line 1 has []"),
        (line(""), "must not be empty"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(tmp_path, bad, said):
    path = written(tmp_path, line("u0"), bad)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}:2: .*{re.escape(said)}"):
        read_confidences(path)


def test_no_file_and_no_line_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"words\.jsonl with confidences"):
        read_confidences(tmp_path / "no.jsonl")
    with pytest.raises(ValueError, match="no utterance"):
        read_confidences(written(tmp_path, "", " "))
    (tmp_path / "words.jsonl").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_confidences(tmp_path / "words.jsonl")


def test_tokens_are_marked_by_the_alignment_of_the_score():
    ref = {"a": "we go 去 home", "b": "yes"}
    found = {
        "a": recognised(("We", 0.9), ("go,", 0.8), ("走", 0.7), ("now", 0.6), text="We go, 走now"),
        "b": recognised(("oh", 0.2), (",", 0.3), ("yes", 0.4)),
    }
    made = label_tokens(ref, found)
    assert made.ids == ("a", "b")
    assert made.owner.tolist() == [0, 0, 0, 0, 1, 1]
    assert made.confidence.tolist() == [0.9, 0.8, 0.7, 0.6, 0.2, 0.4]
    assert made.right.tolist() == [True, True, False, False, False, True]
    assert made.errors.tolist() == [2, 1] and made.tokens.tolist() == [4, 1]
    assert made.removed == 1  # the comma
    assert made.uncertainty["confidence"].tolist() == [0.5, 0.5]
    scored = score(ref, {k: v.text for k, v in found.items()})
    assert [u.errors for u in scored.utterances] == made.errors.tolist()


def test_deleted_words_have_no_confidence_but_are_counted():
    made = label_tokens({"a": "one two three"}, {"a": recognised(("two", 0.9))})
    assert made.right.tolist() == [True]
    assert (made.errors[0], made.deletions[0], made.tokens[0]) == (2, 2, 3)
    silent = label_tokens({"a": "one"}, {"a": recognised()})
    assert len(silent.owner) == 0 and silent.errors.tolist() == [1]


def test_ids_must_match_and_places_are_named(tmp_path):
    found = read_confidences(written(tmp_path, line("u1"), line("u2")))
    with pytest.raises(ValueError, match=r"1 hypotheses have no reference: u2 \(.*words.jsonl:2\)"):
        label_tokens({"u1": "go"}, found)
    with pytest.raises(ValueError, match="1 of 3 references have no hypothesis: u3"):
        label_tokens({"u1": "go", "u2": "go", "u3": "go"}, found)
    with pytest.raises(ValueError, match="unit 'x' is unknown"):
        label_tokens({"u1": "go", "u2": "go"}, found, unit="x")


def test_words_cut_otherwise_than_tokens_give_products():
    # a token of two words; two tokens of one word; then what normalisation joins
    assert confidences_of_tokens(["don't"], [["don"], ["'t"]], [0.5, 0.4]) == [0.2]
    assert confidences_of_tokens(["我", "们"], [["我", "们"]], [0.7]) == [0.7, 0.7]
    mixed = confidences_of_tokens(["ab", "c", "d"], [["a"], [], ["bc"], ["d"]], [0.5, 0.1, 0.4, 1])
    assert mixed == [0.2, 0.4, 1]


def test_letters_that_normalisation_changes_across_words_are_matched():
    pieces = [["ab"], ["cd"]]
    assert confidences_of_tokens(["abXcd"], pieces, [0.5, 0.5]) == [0.25]
    assert confidences_of_tokens(["abX", "Ycd"], pieces, [0.5, 0.25]) == [0.5, 0.25]
    # a token of no word's letters has the confidence of the word behind it, at the end before it
    assert confidences_of_tokens(["ab", "X", "cd", "Y"], pieces, [0.5, 0.2]) == [0.5, 0.2, 0.2, 0.2]
    with pytest.raises(ValueError, match="its words give none"):
        confidences_of_tokens(["a"], [[], []], [0.5, 0.5])


@given(st.text("ab我", max_size=12), st.lists(st.integers(0, 12), max_size=4), st.randoms())
def test_whatever_the_cuts_every_token_has_the_product_of_the_words_it_touches(text, cuts, random):
    ends = sorted({min(c, len(text)) for c in cuts} | {0, len(text)})
    words = [text[a:b] for a, b in pairwise(ends)]
    confidence = [random.random() for _ in words]
    pairs = tuple(zip(words, confidence, strict=True))
    made = label_tokens({"u": ""}, {"u": Recognised(text, pairs, 1.0, {})})
    numbers = [number for number, word in enumerate(words) for _ in word]
    expected, start = [], 0
    for token in re.findall("我|[ab]+", text):
        inside = set(numbers[start : start + len(token)])
        expected.append(np.prod([confidence[number] for number in inside]))
        start += len(token)
    assert made.confidence == pytest.approx(expected)
