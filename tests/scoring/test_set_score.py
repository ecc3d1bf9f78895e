"""The score of a set: sums over its utterances, and a file that is believed only if it adds up."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.scoring import Counts, Remark, SetScore, score
from espnet_blora.scoring.counts import Utterance
from espnet_blora.scoring.job import by_group
from espnet_blora.scoring.set_score import FORMAT, OtherRelease

NUMBERS = st.integers(0, 5)
COUNTS = st.builds(Counts, NUMBERS, NUMBERS, NUMBERS, NUMBERS)


@st.composite
def utterances(draw):
    parts = draw(st.dictionaries(st.sampled_from(["Han", "Latin", "Common"]), COUNTS))
    whole = sum(parts.values(), Counts())
    speaker = draw(st.sampled_from(["", "s1", "s2"]))
    key = draw(st.text("abc#", min_size=1))
    return key, whole, draw(COUNTS), tuple(sorted(parts.items())), speaker


@given(st.lists(utterances(), unique_by=lambda u: u[0]))
def test_every_total_is_the_sum_over_the_utterances(tmp_path_factory, rows):
    made = SetScore("mer", "basic", utterances=tuple(Utterance(*row) for row in sorted(rows)))
    assert made.total == sum((u.counts for u in made.utterances), Counts())
    assert made.pier == sum((u.pier for u in made.utterances), Counts())
    assert sum(made.by_script.values(), Counts()) == made.total
    assert made.wrong_utterances == sum(u.errors > 0 for u in made.utterances)
    assert all(
        u.errors == u.counts.substitutions + u.counts.deletions + u.counts.insertions
        for u in made.utterances
    )
    path = tmp_path_factory.mktemp("score") / "score.json"
    made.save(path)
    assert SetScore.load(path) == made


@pytest.fixture
def document(tmp_path):
    ref = {"a": "我要 big apple 吃", "b": "", "c": "one two three", "d": "四", "e": "x 四"}
    hyp = {"a": "我要 big apples 吃", "b": "uh", "c": "", "d": "四", "e": "x x 四"}
    made = score(ref, hyp)
    languages = by_group(made, {"a": "zh", "b": "en", "c": "en", "d": "zh", "e": "zh"})
    made.save(tmp_path / "score.json", by_language=languages, note="x")
    assert SetScore.load(tmp_path / "score.json") == made
    return tmp_path / "score.json"


def test_the_file_says_what_was_counted(document):
    found = json.loads(document.read_text(encoding="utf-8"))
    assert found["format"] == FORMAT and found["note"] == "x"
    assert found["utterances"][0] == ["a", [4, 1, 0, 0], [1, 1, 0, 0],
        {"Han": [3, 0, 0, 0], "Latin": [1, 1, 0, 0]}, "", None]  # fmt: skip
    assert found["embedded"]["substitutions"] == 1 and found["embedded"]["rate"] == 2 / 3
    assert found["utterances"][4] == ["e", [2, 0, 0, 1], [1, 0, 0, 0],
        {"Han": [1, 0, 0, 0], "Latin": [1, 0, 0, 1]}, "", [0, 1]]  # fmt: skip
    assert found["pier"]["insertions"] == 0 and found["pier"]["range"] == {
        "low": 1 / 3,
        "high": 2 / 3,
    }
    assert len(found["utterance_columns"]) == len(found["utterances"][0])
    assert found["empty_references"] == ["b"] and found["empty_hypotheses"] == ["c"]
    assert [r["kind"] for r in found["remarks"]] == ["empty_hypothesis", "empty_reference"]
    assert found["by_language"]["zh"]["rate"] == pytest.approx(2 / 8)
    lines = document.read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith('  ["') for line in lines) == 5  # one line an utterance


CHANGES = {
    "errors": lambda d: d.update(errors=1),
    "rate": lambda d: d.update(rate=0.1),
    "num_utterances": lambda d: d.update(num_utterances=3),
    "wrong_utterances": lambda d: d.update(wrong_utterances=1),
    "hits": lambda d: d.update(hits=9),
    "by_script": lambda d: d["by_script"]["Han"].update(hits=9),
    "pier": lambda d: d["pier"].update(hits=9),
    "cer_han_kana": lambda d: d["cer_han_kana"].update(rate=0.5),
    "wer_rest": lambda d: d["wer_rest"].update(tokens=1),
    "empty_references": lambda d: d.update(empty_references=[]),
    "by_language": lambda d: d["by_language"]["zh"].update(hits=9),
    "num_utterances: it says 5": lambda d: d["utterances"].pop(),
    "ids are double": lambda d: d["utterances"].append(d["utterances"][0]),
    "its scripts do not add up": lambda d: d["utterances"][0][3].pop("Han"),
    "pier: it says": lambda d: d["pier"].update(range={"low": 0, "high": 1}),
    "embedded": lambda d: d["embedded"].update(insertions=2),
    "are not within [2, 3]": lambda d: d["utterances"][4].__setitem__(5, [2, 3]),
    "KeyError('remarks')": lambda d: d.pop("remarks"),
    "four whole numbers": lambda d: d["utterances"][0].__setitem__(1, [4, 1, 0, -1]),
    "four whole": lambda d: d["utterances"][0].__setitem__(1, [4, 1, 0, 0.0]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_file_that_was_changed_is_not_believed(document, what):
    found = json.loads(document.read_text(encoding="utf-8"))
    CHANGES[what](found)
    document.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(what)) as caught:
        SetScore.load(document)
    assert str(document) in str(caught.value) and "anew" in str(caught.value)


@pytest.mark.parametrize("damage", ["{", "{}", "null", "[]", '{"format": "other/1"}', "\x80"])
def test_a_file_that_is_no_score(tmp_path, damage):
    (tmp_path / "score.json").write_text(damage, encoding="latin-1")
    with pytest.raises(ValueError, match="score.json: not what espnet-blora score"):
        SetScore.load(tmp_path / "score.json")
    with pytest.raises(FileNotFoundError, match="no such file; write it with"):
        SetScore.load(tmp_path / "nothing")


def test_a_file_of_an_older_release_is_to_be_made_anew(tmp_path):
    old = {"format": "espnet_blora.score/2", "unit": "mer", "utterances": [["a", 0, 1]]}
    (tmp_path / "score.json").write_text(json.dumps(old))
    with pytest.raises(OtherRelease, match=r"score/2, this release reads espnet_blora.score/3"):
        SetScore.load(tmp_path / "score.json")


def test_a_remark_names_its_place():
    assert str(Remark("long_token", "reference", "u", "text:3", "abc")) == "text:3 (u): abc"
    assert str(Remark("empty_reference", "reference", "u")) == "reference u"
