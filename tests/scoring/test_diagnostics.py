"""Odd texts and ids: named with file and line, counted all the same."""

import re

import pytest

from espnet_blora.scoring import Counts, score
from espnet_blora.scoring.diagnostics import REMARKS
from espnet_blora.utils.keyed import KeyedText


@pytest.fixture
def sides(tmp_path):
    def write(ref, hyp):
        (tmp_path / "ref").write_bytes(ref.encode())
        (tmp_path / "hyp").write_bytes(hyp.encode())
        return KeyedText(tmp_path / "ref"), KeyedText(tmp_path / "hyp")

    return write


def places(found, kind):
    return [(r.side, r.id, r.where.rpartition("/")[2]) for r in found.remarks if r.kind == kind]


def test_ids_that_do_not_match_are_named_with_file_and_line(sides, tmp_path):
    ref, hyp = sides("a x\nb y\nc z\n", "z q\nB y\na x\n")
    says = (
        f"2 of 3 references have no hypothesis: b ({tmp_path}/ref:2), c ({tmp_path}/ref:3); "
        f"2 hypotheses have no reference: B ({tmp_path}/hyp:2), z ({tmp_path}/hyp:1); "
        f"ids that differ by case only: b ({tmp_path}/ref:2); decode them"
    )
    with pytest.raises(ValueError, match=re.escape(says)):
        score(ref, hyp)


def test_many_ids_are_counted(sides):
    ref, hyp = sides("".join(f"u{n} x\n" for n in range(9)), "")
    with pytest.raises(ValueError, match=r"9 of 9 .*: u0 \(.*ref:1\), .*u4 \(.*\), ... \(9 in all"):
        score(ref, hyp)
    found = score(ref, hyp, missing_as_empty=True)
    assert found.total == Counts(deletions=9)
    assert places(found, "missing_hypothesis")[8] == ("reference", "u8", "ref:9")
    assert not places(found, "empty_hypothesis") and len(found.empty_hypotheses) == 9


def test_empty_sides_are_counted_and_listed(sides):
    found = score(*sides("b y z\na \nc .\nd\n", "a p q\nb\nc\nd \n"))
    assert found.total == Counts(0, 0, 2, 2)
    assert places(found, "empty_reference") == [
        ("reference", "a", "ref:2"), ("reference", "c", "ref:3"), ("reference", "d", "ref:4")
    ]  # fmt: skip
    assert places(found, "empty_hypothesis") == [("hypothesis", "b", "hyp:2")]


def test_ids_that_differ_by_case_are_two_utterances(sides):
    found = score(*sides("A x\nb y\na z\nB w\n", "A x\nb y\na q\nB w\n"))
    assert found.total == Counts(3, 1) and len(found.utterances) == 4
    assert places(found, "ids_differ_by_case") == [
        ("reference", "B", "ref:4"), ("reference", "a", "ref:3")
    ]  # fmt: skip
    assert "differs by case only from A (" in found.remarks[1].what


@pytest.mark.parametrize("sign", ["\x1c", "\x1f", "\x85", "\u2028"])
def test_control_characters_that_separate(sides, sign):
    found = score(*sides(f"a x{sign}y\n", "a x y\n"))
    assert found.total == Counts(hits=2)
    assert places(found, "control_characters") == [("reference", "a", "ref:1")]
    assert found.remarks[0].what == f"1 control characters (U+{ord(sign):04X})"


@pytest.mark.parametrize("sign", ["\x00", "\x07", "\x1b", "\x7f", "\x9f"])
def test_control_characters_that_stay(sides, sign):
    found = score(*sides("a x y\n", f"a x y{sign}{sign}\n"), normalisation="none")
    assert found.total == Counts(1, 1)
    assert places(found, "control_characters") == [("hypothesis", "a", "hyp:1")]
    assert found.remarks[0].what.startswith("2 control characters")


def test_a_token_of_20000_characters(sides):
    long = "ab" * 10_000
    found = score(*sides(f"a x {long} y\n", f"a x {long}b y\n"))
    assert found.total == Counts(2, 1)
    assert [p[2] for p in places(found, "long_token")] == ["hyp:1", "ref:1"]
    assert "a token of 20001 characters, abab" in found.remarks[0].what
    letters = score(*sides(f"a {long}\n", f"a {long[:-1]}\n"), "cer")
    assert letters.total == Counts(19_999, 0, 1, 0)


def test_usual_texts_give_no_remark(sides):
    text = "a 我要 un café\tनमस्ते (“x”) 🙂\u3000y\u00a0z " + "word " * 300 + "\n"
    assert score(*sides(text, text)).remarks == ()


def test_texts_without_a_file_have_no_place():
    found = score({"a": "\x07", "b": ""}, {"a": "\x07", "b": ""}, normalisation="none")
    assert {r.where for r in found.remarks} == {""}
    assert {r.kind for r in found.remarks} <= set(REMARKS)
