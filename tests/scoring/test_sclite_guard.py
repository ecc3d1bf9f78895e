"""The guard before sclite, as ESPnet's stage 13 calls it: from a shell under set -e."""

import os
import subprocess
from pathlib import Path

import pytest

from espnet_blora.scoring.sclite import find_sclite, parse_percentages, parse_totals
from tests.scoring.real import SCLITE, TOOLS, real_sclite

WRAPPER = TOOLS / "bin" / "sclite"
# What ESPnet does after sclite: this grep fails, and with it the stage, where there is no such
# line.
STAGE = """
set -euo pipefail
sclite {opts} -r {d}/ref.trn trn -h {d}/hyp.trn trn -i rm -o all stdout > {d}/result.txt
grep -e Avg -e SPKR -m 2 {d}/result.txt
"""
# ESPnet's scripts/utils/show_asr_result.sh makes a table row of the same line with this.
ROW = (
    "grep -H -e Avg {d}/result.txt | sed -e 's#^.*result.txt:#|x#g' -e 's#Sum/Avg##g'"
    " | tr '|' ' ' | tr -s ' ' '|'"
)


def stage(directory, ref, hyp, opts="", path=f"{TOOLS / 'bin'}:/usr/bin:/bin"):
    (directory / "ref.trn").write_text("".join(f"{t}\t({k})\n" for k, t in ref), encoding="utf-8")
    (directory / "hyp.trn").write_text("".join(f"{t}\t({k})\n" for k, t in hyp), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        ["bash", "-c", STAGE.format(d=directory, opts=opts)],
        env={**environment, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
    )
    result = directory / "result.txt"
    return done, result.read_text(encoding="utf-8") if result.exists() else ""


def not_scored(report):
    return parse_percentages(report) == "not scored - - - - - -".split()


@real_sclite
def test_plain_text_is_scored_as_by_sclite_alone(tmp_path):
    ref = [("s-1", "a b c"), ("s-2", "d e"), ("s-3", "")]
    hyp = [("s-1", "a x c"), ("s-2", "d e"), ("s-3", "f")]
    done, report = stage(tmp_path, ref, hyp)
    assert done.returncode == 0 and done.stderr == ""
    alone = subprocess.run(
        [SCLITE, "-r", "ref.trn", "trn", "-h", "hyp.trn", "trn", "-i", "rm", "-o", "all", "stdout"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert parse_totals(report) == parse_totals(alone) and parse_totals(report).counts.errors == 2
    assert report.count("REF:") == alone.count("REF:") == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hyp.trn", "ref.trn", "result.txt"]


@real_sclite
@pytest.mark.parametrize(
    "text", ["x M^{ME} y", ";; a b", "a { b c d", "a @ b", "a;b c", "** a", "a\\b"]
)
def test_hazards_are_named_and_counted_right(tmp_path, text):
    sides = [("s-1", text), ("s-2", "x y")]
    done, report = stage(tmp_path, sides, sides)
    totals = parse_totals(report)
    assert done.returncode == 0
    assert (totals.utterances, totals.counts.errors) == (2, 0)
    assert totals.counts.hits == len(text.split()) + 2
    assert "utterance 's-1'" in done.stderr and "s-2" not in done.stderr


NOASCII = "-e utf-8 -c NOASCII"


@real_sclite
def test_unspaced_chinese_of_any_length_is_scored_by_character(tmp_path):
    """What recipes in Mandarin and English ask for; 900 characters are one token until then."""
    ref = [("s-1", "我" * 900 + " x"), ("s-2", "去买apple手机")]
    hyp = [("s-1", "我" * 800 + " x"), ("s-2", "去卖apple手机")]
    done, report = stage(tmp_path, ref, hyp, NOASCII)
    totals = parse_totals(report)
    assert done.returncode == 0 and done.stderr == ""
    assert totals.counts.tokens == 901 + 5
    assert (totals.counts.deletions, totals.counts.substitutions) == (100, 1)


@real_sclite
@pytest.mark.parametrize(
    "text", ["你;b好", "我x{y}z去", "好@好", "我a\\b", "é" + "a" * 1200, "买 @ 买"]
)
def test_hazards_between_chinese_characters(tmp_path, text):
    sides = [("s-1", text), ("s-2", "去 x")]
    done, report = stage(tmp_path, sides, sides, NOASCII)
    totals = parse_totals(report)
    assert done.returncode == 0 and totals is not None, report
    assert totals.utterances == 2 and totals.counts.errors == 0
    assert "utterance 's-1'" in done.stderr


@real_sclite
def test_ids_are_made_safe(tmp_path):
    sides = [("s-A", "p q"), ("s-a", "r"), ("s-x(1)", "t"), ("s-b c", "u")]
    done, report = stage(tmp_path, sides, sides)
    assert parse_totals(report).utterances == 4 and parse_totals(report).counts.hits == 5
    assert "'s-a' is written 's-a.2'" in done.stderr and "'s-x(1)'" in done.stderr


@real_sclite
@pytest.mark.parametrize(
    ("ref", "hyp", "reason"),
    [
        ([("s-1", "a"), ("s-2", "b")], [("s-1", "a")], "1 references have no hypothesis: s-2"),
        ([("s-1", "a")], [("s-1", "a"), ("s-2", "b")], "1 hypotheses have no reference: s-2"),
        ([("s-1", "a"), ("s-1", "b")], [("s-1", "a"), ("s-1", "b")], "occur twice: s-1"),
        ([], [], "no utterance in it"),
    ],
)
def test_what_cannot_be_scored_says_so_and_the_stage_goes_on(tmp_path, ref, hyp, reason):
    done, report = stage(tmp_path, ref, hyp)
    assert done.returncode == 0
    assert not_scored(report) and reason in report and reason in done.stderr
    row = subprocess.run(
        ["bash", "-c", ROW.format(d=tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    assert row.strip() == "|x|not|scored|-|-|-|-|-|-|"


@real_sclite
def test_shifted_texts_are_noticed(tmp_path):
    scored = tmp_path / "decode" / "set" / "score_wer"
    scored.mkdir(parents=True)
    (scored.parent / "text").write_text("u1 a\nu3 c\n")
    ref = [("s-u1", "a"), ("s-u2", "b"), ("s-u3", "c")]
    done, report = stage(scored, ref, [("s-u1", "a"), ("s-u2", "c"), ("s-u3", "")])
    assert done.returncode == 0 and not_scored(report)
    assert "'s-u2'" in report and "'u3'" in report
    (scored.parent / "text").write_text("u1 a\nu2 b\nu3 c\n")
    assert parse_totals(stage(scored, ref, ref)[1]).counts.hits == 3


def test_a_crash_is_not_scored(tmp_path):
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "sclite").write_text("#!/bin/sh\nkill -SEGV $$\n")
    (fake / "sclite").chmod(0o755)
    path = f"{TOOLS / 'bin'}:{fake}:/usr/bin:/bin"
    done, report = stage(tmp_path, [("s-1", "a")], [("s-1", "a")], path=path)
    assert done.returncode == 0 and not_scored(report) and "status -11" in report


def test_miscounted_utterances_are_not_scored(tmp_path):
    fake = tmp_path / "fake"
    fake.mkdir()
    table = "| Sum/Avg| 1 1 | 100 0 0 0 0 0 |\\n | Sum | 1 1 | 1 0 0 0 0 0 |\\n"
    (fake / "sclite").write_text(f"#!/bin/sh\nprintf '{table.replace('%', '%%')}'\n")
    (fake / "sclite").chmod(0o755)
    path = f"{TOOLS / 'bin'}:{fake}:/usr/bin:/bin"
    sides = [("s-1", "a"), ("s-2", "b")]
    done, report = stage(tmp_path, sides, sides, path=path)
    assert done.returncode == 0 and not_scored(report)
    assert "sclite scored 1 of 2 utterances" in report


def test_no_sclite_at_all_is_not_scored(tmp_path, monkeypatch, capfdbinary):
    from espnet_blora.scoring import sclite_guard

    monkeypatch.setattr(sclite_guard, "find_sclite", lambda *_: None)
    sides = [("s-1", "a")]
    (tmp_path / "a.trn").write_text("a (s-1)\n")
    names = ["-r", str(tmp_path / "a.trn"), "trn", "-h", str(tmp_path / "a.trn"), "trn"]
    assert sides and sclite_guard.guard([*names, "-i", "rm", "-o", "all", "stdout"]) == 0
    out, err = capfdbinary.readouterr()
    assert not_scored(out.decode()) and b"make sclite" in err


def test_the_guard_does_not_take_itself_for_sclite(tmp_path, monkeypatch):
    (tmp_path / "sclite").symlink_to(WRAPPER)
    monkeypatch.setenv("PATH", f"{TOOLS / 'bin'}:{tmp_path}")
    assert find_sclite([TOOLS / "bin", WRAPPER]) in (None, Path("/usr/lib/sctk/bin/sclite"))
    (tmp_path / "sclite").unlink()
    (tmp_path / "sclite").write_text("#!/bin/sh\n")
    (tmp_path / "sclite").chmod(0o755)
    assert find_sclite([TOOLS / "bin", WRAPPER]) == tmp_path / "sclite"


def test_the_guard_of_another_checkout_is_no_sclite(tmp_path, monkeypatch):
    """Two checkouts on PATH: each guard would take the other for sclite, without end."""
    (tmp_path / "sclite").write_bytes(WRAPPER.read_bytes())
    (tmp_path / "sclite").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_sclite([TOOLS / "bin"]) in (None, Path("/usr/lib/sctk/bin/sclite"))


@real_sclite
def test_other_calls_pass_through(tmp_path):
    done = subprocess.run([WRAPPER], capture_output=True, text=True, check=False, cwd=tmp_path)
    alone = subprocess.run([SCLITE], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (alone.returncode, alone.stdout)
