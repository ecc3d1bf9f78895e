"""The program that scores anyone's Kaldi text files."""

import csv
import json
import subprocess
import sys

import pytest

from espnet_blora.bin.score import main
from espnet_blora.scoring import SetScore, score


@pytest.fixture
def files(tmp_path):
    (tmp_path / "text").write_text("u1 我要 apple\nu2 hello world\n", encoding="utf-8")
    (tmp_path / "hyp").write_text("u1 我 要 apples\nu2 hello\n", encoding="utf-8")
    (tmp_path / "utt2lang").write_text("u1 zh\nu2 en\n")
    return tmp_path


@pytest.fixture
def speakers(tmp_path):
    """A reference directory of 3 speakers x 4 utterances, and two hypotheses."""
    texts = {f"s{s}-{n}": "我 want 三 apples" for s in range(3) for n in range(4)}
    folder = tmp_path / "data"
    for name in ("data", "good", "worse"):
        (tmp_path / name).mkdir()

    def write(name, lines):
        text = "".join(f"{k} {v}\n" for k, v in lines.items())
        (tmp_path / name).write_text(text, encoding="utf-8")

    write("data/text", texts)
    write("data/utt2spk", {k: k[:2] for k in texts})
    write("data/utt2lang", {k: "zh" if k[1] == "0" else "en" for k in texts})
    write("good/text", texts | {"s0-1": "我 want 山 apple", "s1-2": "我 want 三"})
    write("worse/text", {k: "我 want 三" if k[1] == "0" else v for k, v in texts.items()})
    return folder


def run(*args):
    return main([*map(str, args), "--sclite", "none"])


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_it_equals_the_function(files, capsys):
    options = ["--output_dir", files / "o", "--utt2lang", files / "utt2lang"]
    assert run(files, files / "hyp", *options) == 0
    ref = {"u1": "我要 apple", "u2": "hello world"}
    expected = score(ref, {"u1": "我 要 apples", "u2": "hello"})
    assert SetScore.load(files / "o" / "score.json") == expected
    document = read(files / "o" / "score.json")
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
    assert document["interval_95"] is None  # two utterances
    assert document["errors_of_worst_1_percent"] == 0.5
    assert document["hypothesis"] == str(files / "hyp") and document["by_speaker"] == {}
    out = capsys.readouterr().out
    assert "MER 40.00 % of 5 tokens (S 1, D 1, I 0)" in out and "basic (NFKC" in out
    assert "PIER (rest)         100.00 % of 1 " in out and "language zh: 33.33 %" in out
    assert "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|" in out
    assert f"|{files.name}/mer_basic|2|5|60.0|20.0|20.0|0.0|40.0|100.0|" in out


def test_a_part_of_a_published_set_is_said(files, capsys):
    size = {"utterances": 6531, "hours": 7.49, "source": "README of the split"}
    (files / "published.json").write_text(json.dumps(size))
    assert run(files, files / "hyp", "--output_dir", files / "o") == 0
    assert (
        "NOT THE WHOLE SET: 2 of 6,531 utterances (README of the split)" in capsys.readouterr().out
    )
    assert read(files / "o" / "score.json")["published"] == size
    for whole in ({**size, "utterances": 2}, {"utterances": None, "hours": 17, "source": "x"}):
        (files / "published.json").write_text(json.dumps(whole))
        assert run(files, files / "hyp") == 0
        assert "NOT THE WHOLE" not in capsys.readouterr().out


def test_recipes_may_name_the_sides(files):
    sides = ["--ref", files / "text", "--hyp", files / "hyp"]
    assert run(*sides, "--output_dir", files / "o") == 0
    assert (files / "o" / "score.json").is_file()


def test_several_units_and_normalisations_in_one_go(files, capsys):
    (files / "hyp").write_text("u1 我 要 Apple.\nu2 hello\n", encoding="utf-8")
    how = ["--unit", "mer", "wer", "--normalisation", "basic", "none"]
    assert run(files, files / "hyp", "--output_dir", files / "o", *how) == 0
    names = ["score.json", "score_mer_none.json", "score_wer_basic.json", "score_wer_none.json"]
    assert sorted(p.name for p in (files / "o").iterdir()) == names
    found = {n: SetScore.load(files / "o" / n) for n in names}
    assert [(f.unit, f.normalisation) for f in found.values()] == [
        ("mer", "basic"), ("mer", "none"), ("wer", "basic"), ("wer", "none")
    ]  # fmt: skip
    assert [f.total.errors for f in found.values()] == [1, 2, 3, 4]
    out = capsys.readouterr().out
    assert out.count("normalisation basic") == 2 and out.count("normalisation none") == 2
    assert f"|{files.name}/wer_none|2|4|" in out


def test_a_mode_sets_all_that_is_not_given(files):
    (files / "hyp").write_text("u1 我要 APPLE <noise>\nu2 über\n", encoding="utf-8")
    assert (
        run(files, files / "hyp", "--output_dir", files / "o", "--mode", "espnet_compatible") == 0
    )
    found = SetScore.load(files / "o" / "score.json")
    assert (found.unit, found.normalisation) == ("espnet", "espnet_compatible")
    assert found.total == score({"u1": "a b c", "u2": "d e"}, {"u1": "a b c x", "u2": "x y"}).total
    more = ["--mode", "espnet_compatible", "--normalisation", "basic_without_tags", "--poi", "Han"]
    assert run(files, files / "hyp", "--output_dir", files / "o", *more) == 0
    found = SetScore.load(files / "o" / "score.json")
    assert (found.normalisation, found.poi) == ("basic_without_tags", "Han")
    assert found.total.insertions == 0


def test_breakdowns_of_a_directory(speakers, capsys):
    assert run(speakers, speakers.parent / "good", "--output_dir", speakers / "o") == 0
    document = read(speakers / "o" / "score.json")
    assert list(document["by_speaker"]) == ["s0", "s1", "s2"]
    assert [row["errors"] for row in document["by_speaker"].values()] == [2, 1, 0]
    assert document["by_language"]["en"]["tokens"] == 32
    assert [row[4] for row in document["utterances"][::4]] == ["s0", "s1", "s2"]
    out = capsys.readouterr().out
    assert "speaker s0: 12.50 % of 16 tokens, 4 utt" in out and "language en: 3.12 %" in out


def test_of_many_speakers_the_worst_are_printed(tmp_path, capsys):
    ids = [f"s{n:02d}" for n in range(30)]
    (tmp_path / "text").write_text("".join(f"{k} a b\n" for k in ids))
    (tmp_path / "hyp").write_text("".join(f"{k} a {'b' if k < 's25' else 'x'}\n" for k in ids))
    (tmp_path / "utt2spk").write_text("".join(f"{k} {k}\n" for k in ids))
    assert run(tmp_path, tmp_path / "hyp") == 0
    out = capsys.readouterr().out
    assert "speaker s29: 50.00 %" in out and "speaker s24" not in out
    assert "... the worst 20 of 30 speakers" in out


def test_what_intervals_take_as_units(tmp_path, capsys):
    """Eight speakers of ten utterances; all errors are those of two."""
    ids = [f"{speaker}{n}" for speaker in "abcdefgh" for n in range(10)]
    (tmp_path / "text").write_text("".join(f"{k} a b c d\n" for k in ids))
    (tmp_path / "utt2spk").write_text("".join(f"{k} {k[0]}\n" for k in ids))
    (tmp_path / "hyp").write_text("".join(f"{k} {'x b' if k < 'c' else 'a b'} c d\n" for k in ids))
    found = {}
    for how in ("auto", "speakers", "utterances"):
        words = [tmp_path, tmp_path / "hyp", "--output_dir", tmp_path / how, "--resample", how]
        assert run(*words) == 0
        found[how] = read(tmp_path / how / "score.json")["interval_95"]
    assert found["auto"] == found["speakers"]
    assert (found["auto"]["speakers"], found["auto"]["few"]) == (8, True)
    assert (found["utterances"]["utterances"], found["utterances"]["few"]) == (80, False)
    width = {how: ends["high"] - ends["low"] for how, ends in found.items()}
    assert width["speakers"] > 1.5 * width["utterances"]
    out = capsys.readouterr().out
    assert " % (8 spk., few)\n" in out and " % (80 utt.)\n" in out
    assert "the worst 1 % of utterances make 5 % of errors" in out


def test_a_baseline_is_compared_in_pairs(speakers, capsys):
    sides = [speakers, speakers.parent / "good", "--baseline", speakers.parent / "worse"]
    assert run(*sides, "--output_dir", speakers / "o") == 0
    found = read(speakers / "o" / "score.json")["comparison"]
    assert (found["errors"], found["baseline_errors"], found["tokens"]) == (3, 4, 48)
    assert found["difference"] == pytest.approx(-1 / 48)
    assert found["interval_95"] is None and found["probability_better"] is None  # 12 utterances
    out = capsys.readouterr().out
    assert "errors 3, of the baseline 4" in out and "difference to the baseline -2.08 points" in out
    assert "probability" not in out


def test_alignments_and_the_table_of_utterances(speakers, capsys):
    sides = [speakers, speakers.parent / "good", "--output_dir", speakers / "o", "--alignments"]
    assert run(*sides, "--unit", "mer", "cer") == 0
    text = (speakers / "o" / "alignment.txt").read_text(encoding="utf-8")
    head = f"s0-1 ({speakers}/text:2): 2 errors in 4 tokens (S 2, D 0, I 0)"
    assert text.index(head) < text.index("s1-2 (") and "s2-" not in text
    assert "REF: 我 want 三 apples\nHYP: 我 want 山 apple\nERR:         S  S\n" in text
    assert "most frequent deletions:\n       1  apples -> *" in text
    with (speakers / "o" / "utterances.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert len(rows) == 12
    row = rows["s0-1"]
    assert (row["speaker"], row["language"], row["where"]) == ("s0", "zh", f"{speakers}/text:2")
    assert (row["errors"], row["tokens"], row["rate"]) == ("2", "4", "0.5")
    assert (row["pier_errors"], row["pier_points"], row["pier"]) == ("1", "2", "0.5")
    assert (row["cer_han_kana"], row["wer_rest"]) == ("0.5", "0.5")
    assert (speakers / "o" / "alignment_cer_basic.txt").is_file()
    assert "三 -> 山" in capsys.readouterr().out
    assert run(speakers, speakers.parent / "good", "--alignments") == 2


def test_what_is_odd_is_printed_with_its_place(files, capsys):
    (files / "text").write_text("u1 \nu2 hello\x07\nU2 x\n")
    (files / "hyp").write_text("u1 uh\nu2 hello\nU2\n")
    assert run(files / "text", files / "hyp") == 0
    out = capsys.readouterr().out
    assert "PIER (rest)         undefined: no switched utterance" in out
    assert "empty reference: 1, everything recognised there counts as inserted" in out
    assert f"inserted: {files}/text:1" in out
    assert f"empty hypothesis: 1, every reference token counts as deleted: {files}/hyp:3" in out
    assert f"{files}/text:2 (u2): 1 control characters (U+0007)" in out
    assert f"{files}/text:3 (U2): differs by case only from u2 ({files}/text:2)" in out


MISTAKES = [
    (["--normalisation", "x"], "normalisation 'x' is unknown"),
    (["--unit", "ter"], "unit 'ter' is unknown; there are: mer, wer, cer"),
    (["--poi", "latin"], "points of interest 'latin' are unknown"),
    (["--resample", "speakers"], "2 of 2 utterances have no speaker"),
    (["--baseline", "nothing"], "nothing: no such file"),
    (["--sclite", "nothing"], "--sclite nothing: no such program"),
]


@pytest.mark.parametrize(("options", "says"), MISTAKES)
def test_wrong_options_are_one_line(files, capsys, options, says):
    sides = [str(files / "text"), str(files / "hyp")]
    assert main([*sides, "--output_dir", str(files / "o"), *options]) == 2
    err = capsys.readouterr().err
    assert err.startswith("score: error: ") and says in err and err.count("\n") == 1
    assert not (files / "o").exists()


def test_mistakes_in_files_are_one_line(files, capsys):
    def says(*words, hyp=files / "hyp"):
        assert run(files / "text", hyp) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and all(word in err for word in words)

    (files / "hyp").write_text("u1 x\nu1 y\n")
    says("hyp:2", "'u1'")
    (files / "hyp").write_text("u1 x\n")
    says("1 of 2", f"u2 ({files}/text:2)")
    assert run(files / "text", files / "hyp", "--missing_as_empty") == 0
    says("nothing", hyp=files / "nothing")
    (files / "hyp").write_text("u1 x\nu2 y\n")
    (files / "utt2lang").write_text("u1 zh\n")
    assert run(files, files / "hyp") == 2
    assert f"{files}/utt2lang" in capsys.readouterr().err
    assert run(files / "text") == 2


FAKE = """#!/bin/sh
echo ' | Sum/Avg| 2 5 | 60 20 20 0 40 100 |'
echo ' | Sum | {utterances} 5 | 3 1 1 0 2 2 |'
"""


@pytest.mark.parametrize(("utterances", "status"), [(2, 0), (1, 1)])
def test_totals_are_compared_with_sclites(files, capsys, caplog, utterances, status):
    (files / "sclite").write_text(FAKE.format(utterances=utterances))
    (files / "sclite").chmod(0o755)
    sides = [str(files), str(files / "hyp"), "--sclite", str(files / "sclite")]
    assert main([*sides, "--output_dir", str(files / "o"), "--alignments"]) == status
    compared = read(files / "o" / "score.json")["sclite"]
    assert compared["errors"] == 2 and len(compared["problems"]) == (status > 0)
    assert ("1 utterances, we 2" in caplog.text) == (status > 0)
    assert len(list((files / "o").iterdir())) == 3
    assert ("UNEXPLAINED" in capsys.readouterr().out) == (status > 0)


def test_a_failing_sclite_is_said(files, capsys):
    (files / "sclite").write_text("#!/bin/sh\nexit 1\n")
    (files / "sclite").chmod(0o755)
    assert main([str(files), str(files / "hyp"), "--sclite", str(files / "sclite")]) == 0
    assert "sclite: not compared: sclite failed with status 1" in capsys.readouterr().out


def test_it_starts_without_torch():
    code = "import sys, espnet_blora.bin.score; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("speakers", "said"),
    [
        (4, "no interval: 4 speakers, 5 are needed (--resample utterances)"),
        (1, "no interval: 1 speaker, 5 are needed (--resample utterances)"),
        (6, ""),
    ],
)
def test_why_there_is_no_interval(tmp_path, capsys, speakers, said):
    ids = [f"u{n:02d}" for n in range(24)]
    for name, wrong in (("ref", 0), ("hyp", 1), ("base", 2)):
        lines = [f"{k} {'x ' * wrong}{'a ' * (4 - wrong)}b" for k in ids]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    owners = [f"{k} s{n % speakers}" for n, k in enumerate(ids)]
    (tmp_path / "utt2spk").write_text("\n".join(owners) + "\n")
    words = ["ref", "hyp", "--baseline", "base", "--utt2spk", "utt2spk", "--resample", "speakers"]
    words = [str(tmp_path / w) if (tmp_path / w).exists() else w for w in words]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (f"  {said}" in lines) == bool(said)
    (difference,) = [line for line in lines if "difference to the baseline" in line]
    assert difference.endswith(f"points ({said})") if said else "95 % interval" in difference
