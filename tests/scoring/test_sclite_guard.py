"""The guard before sclite, as ESPnet's stage 13 calls it: from a shell under set -e."""

import subprocess
from pathlib import Path

import pytest

from espnet_blora.scoring import Counts, sclite_guard
from espnet_blora.scoring.sclite import find_sclite, parse_percentages, parse_totals
from tests.scoring.real import SCLITE, TOOLS, WRAPPER, not_scored, real_sclite, stage

# ESPnet's scripts/utils/show_asr_result.sh makes a table row of the same line with this.
ROW = (
    "grep -H -e Avg {d}/result.txt | sed -e 's#^.*result.txt:#|x#g' -e 's#Sum/Avg##g'"
    " | tr '|' ' ' | tr -s ' ' '|'"
)


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
@pytest.mark.parametrize("opts", ["", "-e utf-8", NOASCII])
@pytest.mark.parametrize(
    ("left", "right", "tokens", "errors"),
    [
        ("p q\udce4\udcbd r", "p q r", 3, 1),  # cut short, it would swallow the blank that follows
        ("a { b", "a <LBRACE> b", 3, 1),
        ("@ b", "<at> b", 2, 1),
        ("K\udcff", "k\udcff", 1, 0),
        ("A" * 600, "a" * 600, 1, 0),
        ("x\ry z", "x y z", 3, 0),
    ],
)
def test_what_differs_is_kept_apart_and_what_does_not_is_not(
    tmp_path, opts, left, right, tokens, errors
):
    done, report = stage(
        tmp_path, [("s-1", left), ("s-2", "")], [("s-1", right), ("s-2", "")], opts
    )
    totals = parse_totals(report)
    split = opts == NOASCII  # then each stray byte is a word of its own
    stray = sum(c > "\x7f" for c in left) if split else 0
    assert done.returncode == 0 and totals is not None, report + done.stderr
    assert totals.counts.tokens == tokens + stray
    assert totals.counts.errors == (stray if split and errors and stray else errors)


@real_sclite
def test_ids_may_look_like_rows_of_the_table_and_be_no_utf8(tmp_path):
    """With -s speakers keep their case: one called Sum has a row like that of the total."""
    sides = [("Sum-1", "a b"), ("Sum-2", "c"), ("s-\udcff", "d")]
    done, report = stage(tmp_path, sides, [*sides[:2], ("s-\udcff", "e")], "-e utf-8 -s")
    assert parse_totals(report).counts == Counts(hits=3, substitutions=1), done.stderr


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
@pytest.mark.parametrize(
    ("text", "opts", "reason"),
    [
        ("a b", "-e gb", "only UTF-8 is read here"),
        ("\ufeffa b", "", "ref.trn:1: byte order mark"),
        ("a b", "-h other.trn trn", "more than one file a side"),
    ],
)
def test_what_the_guard_cannot_vouch_for_is_refused(tmp_path, text, opts, reason):
    done, report = stage(tmp_path, [("s-1", text)], [("s-1", text)], opts)
    assert done.returncode == 0 and not_scored(report) and reason in report


@real_sclite
def test_options_that_change_the_count_are_not_compared_and_that_is_said(tmp_path):
    """-D: words in parentheses may be left out."""
    done, report = stage(tmp_path, [("s-1", "a (b) c")], [("s-1", "a c")], "-D")
    assert parse_totals(report).counts.errors == 0
    assert "not compared with a count of ours: -D changes what counts" in done.stderr


@real_sclite
def test_shifted_lines_of_a_text_with_odd_line_ends_are_not_invented(tmp_path):
    scored = tmp_path / "decode" / "set" / "score_wer"
    scored.mkdir(parents=True)
    (scored.parent / "text").write_bytes("u1 a\x0bb\u2028c\nu2 b\n".encode())
    sides = [("s-u1", "a\x0bb\u2028c"), ("s-u2", "b")]
    assert parse_totals(stage(scored, sides, sides)[1]).counts == Counts(hits=3)


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


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1 1 | 1 0 0 0 0 0", "sclite scored 1 of 2 utterances"),
        ("2 3 | 2 1 0 0 1 1", "counted 3 reference tokens, we 2"),
        ("2 2 | 1 1 0 1 2 1", "counted 3 hypothesis tokens, we 2"),
        ("2 2 | 1 0 1 1 2 1", "4S + 3D + 3I = 6, we 4"),
        ("2 2 | 2 0 0 0 0 0", "found errors in 0 utterances, we 1"),
        ("2 2 | 2 0 0 0 0 1", "4S + 3D + 3I = 0, we 4"),
        ("2 2 | 1 1 0 0 2 1", "contradicts itself"),
    ],
)
def test_a_wrong_figure_is_not_passed_on(tmp_path, row, reason):
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "sclite").write_text(
        f"#!/bin/sh\necho '| Sum/Avg| 2 2 | 50 50 0 0 50 50 |'\necho ' | Sum | {row} |'\n"
    )
    (fake / "sclite").chmod(0o755)
    path = f"{TOOLS / 'bin'}:{fake}:/usr/bin:/bin"
    hyp = [("s-1", "a"), ("s-2", "c")]
    done, report = stage(tmp_path, [("s-1", "a"), ("s-2", "b")], hyp, path=path)
    assert done.returncode == 0 and not_scored(report) and reason in report


@real_sclite
def test_figures_that_are_printed_without_totals_are_checked_too(tmp_path, capfd, monkeypatch):
    """sclite -o sum prints percentages alone: they are checked by a second call."""
    stage(tmp_path, [("s-1", "a b")], [("s-1", "a c")])
    calls = []
    real_run = sclite_guard._run
    monkeypatch.setattr(
        sclite_guard, "_run", lambda real, argv: calls.append(argv) or real_run(real, argv)
    )
    names = ["-r", str(tmp_path / "ref.trn"), "trn", "-h", str(tmp_path / "hyp.trn"), "trn"]
    assert sclite_guard.guard([*names, "-i", "rm", "-o", "sum", "stdout"], real=SCLITE) == 0
    assert parse_percentages(capfd.readouterr().out)[:2] == ["1", "2"]
    assert [call[call.index("-o") + 1] for call in calls] == ["sum", "rsum"]


def test_no_sclite_at_all_is_not_scored(tmp_path, monkeypatch, capfdbinary):
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
