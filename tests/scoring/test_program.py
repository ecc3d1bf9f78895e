"""The program that scores anyone's Kaldi text files."""

import json

import pytest

from espnet_blora.bin.score import main
from espnet_blora.scoring import SetScore, score


@pytest.fixture
def files(tmp_path):
    (tmp_path / "text").write_text("u1 我要 apple\nu2 hello world\n", encoding="utf-8")
    (tmp_path / "hyp").write_text("u1 我 要 apples\nu2 hello\n", encoding="utf-8")
    (tmp_path / "utt2lang").write_text("u1 zh\nu2 en\n")
    return tmp_path


def test_it_equals_the_function(files, capsys):
    options = ["--out", str(files / "o"), "--utt2lang", str(files / "utt2lang")]
    assert main([str(files), str(files / "hyp"), *options]) == 0
    ref = {"u1": "我要 apple", "u2": "hello world"}
    expected = score(ref, {"u1": "我 要 apples", "u2": "hello"})
    assert SetScore.load(files / "o" / "score.json") == expected
    document = json.loads((files / "o" / "score.json").read_text(encoding="utf-8"))
    assert document["by_language"]["en"] == {
        "utterances": 1,
        "hits": 1,
        "substitutions": 0,
        "deletions": 1,
        "insertions": 0,
        "errors": 1,
        "tokens": 2,
        "rate": 0.5,
        "interval_95": None,
    }
    assert document["rate"] == 0.4 and document["normalisation"] == "basic"
    assert document["interval_95"]["low"] <= 0.4 <= document["interval_95"]["high"]
    out = capsys.readouterr().out
    assert "MER 40.00 % of 5 tokens (S 1, D 1, I 0)" in out and "basic (NFKC" in out
    assert "PIER                100.00 %" in out and "language zh: 33.33 %" in out


def test_recipes_may_name_the_sides(files):
    sides = ["--ref", str(files / "text"), "--hyp", str(files / "hyp")]
    assert main([*sides, "--output_dir", str(files / "o")]) == 0
    assert (files / "o" / "score.json").is_file()


def test_mistakes_are_one_line(files, caplog):
    (files / "hyp").write_text("u1 x\nu1 y\n")
    assert main([str(files / "text"), str(files / "hyp")]) == 2
    assert "hyp:2: duplicate id 'u1'" in caplog.text
    (files / "hyp").write_text("u1 x\n")
    assert main([str(files / "text"), str(files / "hyp")]) == 2
    assert "1 of 2 references have no hypothesis: u2" in caplog.text
    assert main([str(files / "text"), str(files / "nothing")]) == 2
    with pytest.raises(SystemExit):
        main([str(files / "text")])


FAKE = """#!/bin/sh
echo ' | Sum/Avg| 2 5 | 60 20 20 0 40 100 |'
echo ' | Sum | {utterances} 5 | 3 1 1 0 2 2 |'
"""


@pytest.mark.parametrize(("utterances", "status"), [(2, 0), (1, 3)])
def test_totals_are_compared_with_sclites(files, capsys, caplog, utterances, status):
    (files / "sclite").write_text(FAKE.format(utterances=utterances))
    (files / "sclite").chmod(0o755)
    sides = [str(files), str(files / "hyp"), "--sclite", str(files / "sclite")]
    assert main([*sides, "--out", str(files)]) == status
    compared = json.loads((files / "score.json").read_text(encoding="utf-8"))["sclite"]
    assert compared["errors"] == 2 and len(compared["problems"]) == (status > 0)
    assert ("scored 1 utterances, we 2" in caplog.text) == (status > 0)


def test_a_failing_sclite_is_said(files, capsys):
    (files / "sclite").write_text("#!/bin/sh\nexit 1\n")
    (files / "sclite").chmod(0o755)
    assert main([str(files), str(files / "hyp"), "--sclite", str(files / "sclite")]) == 0
    assert "sclite: not compared" in capsys.readouterr().out
    assert main([str(files), str(files / "hyp"), "--sclite", "none"]) == 0
    assert main([str(files), str(files / "hyp"), "--sclite", str(files / "nothing")]) == 2
