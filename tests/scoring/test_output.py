"""The files to look at: the worst first, each side's rate in its own column, whole or not there."""

import csv

import pytest

from espnet_blora.scoring import score
from espnet_blora.scoring.job import Job
from espnet_blora.scoring.output import (
    confusion_lines,
    espnet_table,
    worst_first,
    write_alignments,
    write_utterances,
)

REF = {"a": "我 买 apple", "b": "one two", "c": "四", "d": "x y z w", "e": ""}
HYP = {"a": "我 卖 apple", "b": "two", "c": "是", "d": "", "e": ""}


def test_the_worst_come_first():
    assert [u.id for u in worst_first(score(REF, HYP))] == ["d", "c", "b", "a"]


def test_the_table_of_utterances(tmp_path):
    write_utterances(tmp_path / "u.csv", Job(REF, HYP, speakers={"a": "s, 1"}), score(REF, HYP))
    with (tmp_path / "u.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert list(rows) == list("abcde")
    a = rows["a"]
    assert (a["han_kana_errors"], a["han_kana_tokens"], a["cer_han_kana"]) == ("1", "2", "0.5")
    assert (a["rest_errors"], a["rest_tokens"], a["wer_rest"]) == ("0", "1", "0")
    assert (a["pier_errors"], a["pier_points"], a["speaker"]) == ("0", "1", "s, 1")
    assert rows["e"]["rate"] == rows["b"]["cer_han_kana"] == rows["b"]["speaker"] == ""


def test_the_alignments(tmp_path):
    confused = write_alignments(tmp_path / "a.txt", Job(REF, HYP), score(REF, HYP))
    text = (tmp_path / "a.txt").read_text(encoding="utf-8")
    assert text.startswith("# one optimal alignment per utterance, most errors first; unit mer, ")
    assert "\nd: 4 errors in 4 tokens (S 0, D 4, I 0)\nREF: x y z w\nHYP: * * * *\n" in text
    assert confused["sub"] == [(1, "买", "卖"), (1, "四", "是")]
    assert text.endswith("\n".join(confusion_lines(confused)) + "\n")
    assert confusion_lines(confused, 1)[:2] == [
        "most frequent substitutions:",
        "       1  买 -> 卖",
    ]


def test_a_file_that_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyError):
        write_alignments(tmp_path / "a.txt", Job({"d": "x"}, {}), score(REF, HYP))
    assert list(tmp_path.iterdir()) == []


def test_table():
    one = score({"a": "x y z w", "b": "v"}, {"a": "x q z", "b": "v u"})
    nothing = score({"a": ""}, {"a": "y"})
    assert espnet_table([("test", one), ("a|b", nothing)]).split("\n") == [
        "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|",
        "|---|---|---|---|---|---|---|---|---|",
        "|test|2|5|60.0|20.0|20.0|20.0|60.0|100.0|",
        "|a\\|b|1|0|–|–|–|–|–|100.0|",
    ]
