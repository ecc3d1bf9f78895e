"""One frame for all programs: status 0, 1, 2; one line for a mistake; - and _ alike."""

import os
import sys

import pytest

from espnet_blora.utils.mistakes import DEBUG
from espnet_blora.utils.program import Parser, pairs, run_program


def parser():
    made = Parser("demo", "What it does.")
    made.add_argument("files", nargs="*")
    made.add_argument("--batch_size", type=int, default=16, help="utterances at once")
    made.add_argument("--out-dir", help="a folder")
    made.renamed("--size", "--batch_size")
    return made


@pytest.mark.parametrize(
    "words",
    [
        ["--batch_size", "4"],
        ["--batch-size", "4"],
        ["--batch-size=4"],
        ["--size", "4"],
        ["a", "--batch-size=4", "b"],
    ],
)
def test_both_spellings_and_the_old_name(words):
    assert parser().parse_intermixed_args(words).batch_size == 4


def test_an_old_name_is_warned_of(caplog):
    parser().parse_args(["--size=4"])
    assert "--batch_size" in caplog.text


def test_words_after_two_dashes_are_left_alone():
    assert parser().parse_args(["--", "--out_dir"]).files == ["--out_dir"]
    assert parser().parse_args(["--out_dir", "x"]).out_dir == "x"


def test_help_shows_defaults_that_are_there():
    text = " ".join(parser().format_help().split())
    assert "utterances at once (default: 16)" in text
    assert "a folder (default" not in text


@pytest.mark.parametrize(("result", "status"), [(None, 0), (0, 0), (1, 1)])
def test_the_status_is_what_the_work_found(result, status):
    assert run_program(parser(), lambda args: result, []) == status


def mistaken(args):
    return parse("x")


def parse(text):
    from espnet_blora.utils.mistakes import parse_scale

    return parse_scale(text, "--scale")


def test_a_mistake_is_one_line_and_status_2(capsys, monkeypatch):
    assert run_program(parser(), mistaken, []) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("demo: error: --scale: found 'x'")
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(ValueError, match="--scale"):
        run_program(parser(), mistaken, [])


def test_a_file_that_is_not_there_is_a_mistake(tmp_path, capsys):
    assert run_program(parser(), lambda args: (tmp_path / "none").read_text(), []) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_a_reader_that_has_enough_is_no_mistake(monkeypatch, capfd):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert run_program(parser(), lambda args: print("many lines"), []) == 141
    assert capfd.readouterr().err == ""


def test_an_accident_keeps_its_traceback():
    with pytest.raises(ValueError, match="invalid literal"):
        run_program(parser(), lambda args: int("x"), [])


def test_a_wrong_option_is_one_line_and_status_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        run_program(parser(), lambda args: None, ["--nonsense"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "demo: error: unrecognized arguments: --nonsense\n"


def test_ctrl_c_is_one_line_and_status_130(capsys):
    def stopped(args):
        raise KeyboardInterrupt

    assert run_program(parser(), stopped, []) == 130
    assert capsys.readouterr().err == "demo: interrupted\n"


def given(built, words):
    """What the work of a program gets."""
    seen = []
    assert run_program(built, seen.append, words) == 0
    return seen[0]


def test_words_that_argparse_cannot_mix_with_options_are_parsed_all_the_same():
    built = Parser("demo", "What it does.")
    group = built.add_mutually_exclusive_group(required=True)
    group.add_argument("file", nargs="?")
    group.add_argument("--all", action="store_true")
    assert given(built, ["x"]).file == "x"
    assert given(built, ["--all"]).all
    assert given(parser(), ["--batch-size=2", "--", "--batch_size"]).files == ["--batch_size"]


def test_subcommands_are_programs_too(capsys):
    built = Parser("demo", "What it does.")
    command = built.add_subparsers(dest="command", required=True).add_parser("make")
    command.add_argument("--out_dir", required=True, help="a folder")
    assert given(built, ["make", "--out-dir", "x"]).out_dir == "x"
    with pytest.raises(SystemExit):
        run_program(built, print, ["make"])
    assert capsys.readouterr().err.startswith("demo make: error: ")


def test_pairs_of_an_option():
    assert pairs(["a=1", "b=x=y", "c="], "--set") == {"a": "1", "b": "x=y", "c": ""}
    for wrong, says in ((["a"], "NAME=VALUE"), (["=1"], "NAME=VALUE"), (["a=1", "a=2"], "twice")):
        with pytest.raises(ValueError, match=f"--set.*{says}"):
            pairs(wrong, "--set")
