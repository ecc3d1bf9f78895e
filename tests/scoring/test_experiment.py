"""Stage 13: ESPnet's files, what sclite would misread, and what cannot be scored."""

import json
import random
import subprocess

import pytest

from espnet_blora.bin.score_experiment import main
from espnet_blora.scoring import Counts, SetScore, experiment, sclite
from espnet_blora.scoring.experiment import espnet_characters, read_symbols
from espnet_blora.scoring.sclite import parse_percentages, parse_totals
from tests.scoring.real import not_scored, real_sclite, report, stage

NOASCII = "-e utf-8 -c NOASCII"
# ESPnet's scripts/utils/show_asr_result.sh makes a table row of the same line with this.
ROW = (
    "grep -H -e Avg {file} | sed -e 's#^.*result.txt:#|x#g' -e 's#Sum/Avg##g'"
    " | tr '|' ' ' | tr -s ' ' '|'"
)


def fake(folder, script):
    (folder / "sclite").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "sclite").chmod(0o755)
    return folder / "sclite"


def totals(folder, kind="wer"):
    return parse_totals(report(folder, kind))


@real_sclite
def test_the_files_are_those_of_espnets_stage_13(tmp_path):
    ref, hyp = {"s-1": "go  to 我家", "s-2": "Yes"}, {"s-2": "yes", "s-1": "go 我 家"}
    outcome = stage(tmp_path, ref, hyp, NOASCII)
    assert not outcome.problems and not outcome.mistake
    folder = tmp_path / "exp" / "decode" / "set"
    written = {p.relative_to(folder): p.read_text("utf-8") for p in folder.rglob("*.trn")}
    assert {str(path): text for path, text in written.items()} == {
        "score_wer/ref.trn": "go to 我家\t(s-s-1)\nYes\t(s-s-2)\n",
        "score_wer/hyp.trn": "go 我 家\t(s-s-1)\nyes\t(s-s-2)\n",
        "score_cer/ref.trn": "g o <space> t o <space> 我 家\t(s-s-1)\nY e s\t(s-s-2)\n",
        "score_cer/hyp.trn": "g o <space> 我 <space> 家\t(s-s-1)\ny e s\t(s-s-2)\n",
        "score_mer/ref.trn": "go to 我 家\t(s-s-1)\nyes\t(s-s-2)\n",
        "score_mer/hyp.trn": "go 我 家\t(s-s-1)\nyes\t(s-s-2)\n",
    }
    assert totals(tmp_path).counts == Counts(hits=4, deletions=1)
    assert totals(tmp_path, "cer").counts == Counts(hits=8, substitutions=1, deletions=2)
    assert totals(tmp_path, "mer").counts == Counts(hits=4, deletions=1)
    score = SetScore.load(folder / "score_blora" / "score.json")
    assert score.total == Counts(hits=4, deletions=1)
    document = json.loads((folder / "score_blora" / "score.json").read_text("utf-8"))
    assert document["sclite"]["errors"] == document["jiwer"]["errors"] == 1
    assert [line.split(":")[0] for line in outcome.lines[-2:]] == ["set, mer"] * 2


def test_the_published_size_comes_from_stage_1(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "set").mkdir(parents=True)
    size = {"utterances": 3, "hours": None, "source": "its README"}
    (tmp_path / "data" / "set" / "published.json").write_text(json.dumps(size))
    outcome = stage(tmp_path, {"s-1": "a"}, {"s-1": "a"})
    assert any("1 of 3 utterances (its README)" in line for line in outcome.lines)
    score = tmp_path / "exp" / "decode" / "set" / "score_blora" / "score.json"
    assert json.loads(score.read_text("utf-8"))["published"] == size


@real_sclite
@pytest.mark.parametrize(
    "text", ["x M^{ME} y", ";; a b", "a { b c d", "a @ b", "a;b c", "** a", "a\\b"]
)
def test_hazards_are_counted_right_and_named(tmp_path, caplog, text):
    caplog.set_level("INFO")
    sides = {"s-1": text, "s-2": "x y"}
    stage(tmp_path, sides, sides)
    assert totals(tmp_path).utterances == 2
    assert totals(tmp_path).counts == Counts(hits=len(text.split()) + 2)
    assert "set, wer: 1 tokens spelled out" in caplog.text


@real_sclite
def test_unspaced_chinese_of_any_length_is_scored_by_character(tmp_path):
    """What recipes in Mandarin and English ask for; 900 characters are one token until then."""
    ref = {"s-1": "我" * 900 + " x", "s-2": "去买apple手机"}
    hyp = {"s-1": "我" * 800 + " x", "s-2": "去卖apple手机"}
    assert not stage(tmp_path, ref, hyp, NOASCII).problems
    counts = totals(tmp_path).counts
    assert (counts.tokens, counts.deletions, counts.substitutions) == (901 + 5, 100, 1)


@real_sclite
@pytest.mark.parametrize(
    "text", ["你;b好", "我x{y}z去", "好@好", "我a\\b", "é" + "a" * 1200, "买 @ 买"]
)
def test_hazards_between_chinese_characters(tmp_path, text):
    sides = {"s-1": text, "s-2": "去 x"}
    assert not stage(tmp_path, sides, sides, NOASCII).problems
    assert totals(tmp_path).utterances == 2 and totals(tmp_path).counts.errors == 0


@real_sclite
def test_ids_are_made_safe(tmp_path):
    sides = {"s-A": "p q", "s-a": "r", "s-x(1)": "t", "Sum-1": "u"}
    assert not stage(tmp_path, sides, sides, "-e utf-8 -s").problems
    assert totals(tmp_path).utterances == 4 and totals(tmp_path).counts.hits == 5


@real_sclite
@pytest.mark.parametrize("opts", ["", "-e utf-8", NOASCII])
@pytest.mark.parametrize(
    ("left", "right", "tokens", "errors"),
    [
        ("a { b", "a <LBRACE> b", 3, 1),
        ("@ b", "<at> b", 2, 1),
        ("A" * 600, "a" * 600, 1, 0),
        ("x\vy z", "x y z", 3, 0),
    ],
)
def test_what_differs_is_kept_apart_and_what_does_not_is_not(
    tmp_path, opts, left, right, tokens, errors
):
    stage(tmp_path, {"s-1": left, "s-2": ""}, {"s-1": right, "s-2": ""}, opts)
    assert (totals(tmp_path).counts.tokens, totals(tmp_path).counts.errors) == (tokens, errors)


@real_sclite
def test_lines_are_paired_by_id(tmp_path):
    ref = {"s-1": "a", "s-2": "b", "s-3": "c"}
    stage(tmp_path, ref, dict(reversed(ref.items())))
    assert totals(tmp_path).counts == Counts(hits=3)


@real_sclite
@pytest.mark.parametrize(
    ("ref", "hyp", "reason"),
    [
        ({"s-1": "a", "s-2": "b"}, {"s-1": "a"}, "s-2"),
        ({"s-1": "a"}, {"s-1": "a", "s-2": "b"}, "s-2"),
        ({}, {}, "no reference utterance"),
        ({"s-1": "a\rb"}, {"s-1": "a"}, "text:1: carriage return"),
        ({"s-1": "\ufeffa"}, {"\ufeffs-1": "a"}, "text:1: byte order mark"),
    ],
)
def test_what_cannot_be_scored_is_said_and_no_old_table_stays(tmp_path, ref, hyp, reason):
    stage(tmp_path, {"s-1": "a"}, {"s-1": "a"})
    assert not not_scored(report(tmp_path))
    outcome = stage(tmp_path, ref, hyp)
    assert outcome.mistake.startswith("set: ") and reason in outcome.mistake
    for kind in ("wer", "cer", "mer"):
        assert not_scored(report(tmp_path, kind)) and reason in report(tmp_path, kind)
    file = tmp_path / "exp" / "decode" / "set" / "score_wer" / "result.txt"
    row = subprocess.run(
        ["bash", "-c", ROW.format(file=file)], capture_output=True, text=True, check=True
    ).stdout
    assert row.strip() == "|x|not|scored|-|-|-|-|-|-|"


@real_sclite
def test_options_that_change_the_count_are_not_compared_and_that_is_said(tmp_path, caplog):
    """-D: words in parentheses may be left out."""
    caplog.set_level("INFO")
    assert not stage(tmp_path, {"s-1": "a (b) c"}, {"s-1": "a c"}, "-D").problems
    assert totals(tmp_path).counts.errors == 0
    assert "set, wer: sclite is not compared with us, because of -D" in caplog.text


def test_without_sclite_the_tables_say_so_and_our_figures_are_there(tmp_path):
    outcome = stage(tmp_path, {"s-1": "a b"}, {"s-1": "a"}, sclite=None)
    assert not outcome.problems and not outcome.mistake
    assert not_scored(report(tmp_path)) and "there is none" in report(tmp_path, "mer")
    assert outcome.scores["set/mer_basic"].total == Counts(hits=1, deletions=1)


def test_a_crash_is_not_scored_and_no_problem_of_the_figures(tmp_path):
    program = fake(tmp_path, "kill -SEGV $$")
    outcome = stage(tmp_path, {"s-1": "a"}, {"s-1": "a"}, sclite=program)
    assert not_scored(report(tmp_path)) and "status -11" in report(tmp_path)
    assert not outcome.problems and not outcome.mistake


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1 1 | 1 0 0 0 0 0", "sclite scored 1 utterances, we 2"),
        ("2 3 | 2 1 0 0 1 1", "counted 3 reference tokens, we 2"),
        ("2 2 | 1 1 0 1 2 1", "counted 3 hypothesis tokens, we 2"),
        ("2 2 | 1 0 1 1 2 1", "4S + 3D + 3I = 6, we 4"),
        ("2 2 | 2 0 0 0 0 0", "found errors in 0 utterances, we 1"),
        ("2 2 | 2 0 0 0 0 1", "0 errors, fewer than our 1"),
    ],
)
def test_a_wrong_figure_is_a_problem_and_not_passed_on(tmp_path, row, reason):
    program = fake(tmp_path, f"echo '| Sum/Avg| 2 2 | 50 50 0 0 50 50 |'\necho ' | Sum | {row} |'")
    sides = {"s-1": "a", "s-2": "b"}, {"s-1": "a", "s-2": "c"}
    outcome = stage(tmp_path, *sides, sclite=program)
    for kind in ("wer", "cer", "mer"):
        assert not_scored(report(tmp_path, kind)) and reason in report(tmp_path, kind)
        assert any(p.startswith(f"set, {kind}: ") and reason in p for p in outcome.problems)
    assert any(p.startswith("set, mer_basic: ") for p in outcome.problems)  # our own check


def test_a_difference_to_jiwer_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(
        experiment, "against_jiwer", lambda *_: {"problems": ["jiwer counts 7 errors, we 1"]}
    )
    outcome = stage(tmp_path, {"s-1": "a"}, {"s-1": "b"}, sclite=None)
    assert outcome.problems == [f"set, {kind}er: jiwer counts 7 errors, we 1" for kind in "wcm"]


def test_an_utterance_too_long_for_sclite_has_our_figures_alone(tmp_path):
    """50,000 tokens on either side: sclite would take over 20 GB."""
    generator = random.Random(5)
    words = [f"w{n}" for n in range(3000)]
    said = generator.choices(words, k=50_000)
    heard = [w if generator.random() < 0.85 else generator.choice(words) for w in said]
    never = fake(tmp_path, "echo sclite was called; exit 3")
    sides = {"s-1": " ".join(said)}, {"s-1": " ".join(heard)}
    outcome = stage(tmp_path, *sides, sclite=never)
    assert not outcome.problems and not outcome.mistake
    assert "50000 reference and 50000 recognised tokens" in report(tmp_path)
    score = outcome.scores["set/mer_basic"]
    assert score.total.tokens == 50_000 and 0.14 < score.total.rate < 0.16
    assert any("sclite: not compared: " in line for line in outcome.lines)


@real_sclite
def test_the_longest_utterance_is_still_given_to_sclite(tmp_path, monkeypatch):
    monkeypatch.setattr(sclite, "MOST_CELLS", 12)
    sides = {"s-1": "a b c d", "s-2": "x"}
    stage(tmp_path, sides, {"s-1": "a b c", "s-2": "y"})
    assert parse_percentages(report(tmp_path))[:2] == ["2", "5"]
    stage(tmp_path, sides, {"s-1": "a b c e", "s-2": "y"})
    assert not_scored(report(tmp_path))


def test_characters_are_those_of_espnets_tokenizer():
    from espnet2.text.char_tokenizer import CharTokenizer

    symbols = ["<noise>", "<no", "", "a b"]
    tokenizer = CharTokenizer(non_linguistic_symbols=symbols)
    for text in ("我 <noise><noi", "a b a", "e\u0301 x\u200by", ""):
        assert espnet_characters(text, symbols) == tokenizer.text2tokens(text)


def test_symbols_are_lines_of_a_file(tmp_path):
    (tmp_path / "symbols").write_text("<a>\n<b> \n")
    assert read_symbols(tmp_path / "symbols") == ["<a>", "<b>", ""]
    assert read_symbols(None) == []
    with pytest.raises(FileNotFoundError, match="absent"):
        read_symbols(tmp_path / "absent")


# ---- the program ---------------------------------------------------------------------------------


def run(folder, *options):
    words = ["--asr_exp", folder / "exp", "--dump", folder / "dump", *options]
    return main([*map(str, words)])


def test_a_mistake_in_one_set_does_not_stop_the_others(tmp_path, capsys):
    for name in ("bad", "good"):
        stage(tmp_path, {"s-1": "a b"}, {"s-1": "a"}, sclite=None, name=name)
    (tmp_path / "exp/decode/bad/text").write_text("s-2 x\n")
    (tmp_path / "exp/decode/good/score_blora/score.json").unlink()
    options = ["--sclite", "none", "--sets"]
    assert run(tmp_path, *options, "bad", "absent", "good") == 2
    out, err = capsys.readouterr()
    assert err.count("error: ") == 1 and "bad: 1 of 1" in err and "dump/absent" in err
    assert "|good/mer_basic|1|2|50.0|0.0|50.0|0.0|50.0|100.0|" in out
    assert (tmp_path / "exp/decode/good/score_blora/score.json").is_file()
    assert not (tmp_path / "exp/decode/absent").exists()
    assert run(tmp_path, *options, "good") == 0
    assert run(tmp_path, *options, "good bad") == 2
    assert "bad: 1 of 1" in capsys.readouterr().err


def test_modes_have_a_file_each(tmp_path):
    stage(tmp_path, {"s-1": "\u0623 b"}, {"s-1": "\u0627 b"}, sclite=None)
    assert run(tmp_path, "--sclite", "none", "--mode", "arabic", "--sets", "set") == 0
    folder = tmp_path / "exp/decode/set/score_blora"
    rates = {path.name: SetScore.load(path).rate for path in folder.iterdir()}
    assert rates == {
        "score.json": 0.5,
        "score_mer_basic.json": 0.5,
        "score_mer_arabic_lenient.json": 0.0,
    }


def test_where_scorers_differ_the_status_is_1(tmp_path, caplog):
    stage(tmp_path, {"s-1": "a"}, {"s-1": "b"}, sclite=None)
    program = fake(tmp_path, "echo ' | Sum | 1 1 | 1 0 0 0 0 0 |'")
    assert run(tmp_path, "--sclite", program, "--sets", "set") == 1
    assert "set, wer: sclite found errors in 0 utterances, we 1" in caplog.text


@pytest.mark.parametrize("options", [["--score_opts", "-e gb"], ["--nlsyms_txt", "absent"]])
def test_wrong_options_are_a_mistake(tmp_path, capsys, options):
    assert run(tmp_path, *options, "--sets", "set") == 2
    assert options[1] in capsys.readouterr().err
