"""Every command that a README or a page of docs/ prints is one that its program takes."""

import functools
import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CUSTOM = ROOT / "egs2" / "custom" / "asr1"
PAGES = [
    *sorted(ROOT.glob("egs2/*/asr1/R*.md")),
    *sorted(ROOT.glob("docs/*.md")),
    ROOT / "README.md",
]
PAGES = [page for page in PAGES if "TEMPLATE" not in page.parts]
PROGRAM = re.compile(r"\s*(?:python3 -m espnet_blora\.bin\.|espnet-blora )(\w+) (.*)")


def commands(page):
    """Its shell blocks, a command each, loops opened and variables filled in."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    for line in "".join(blocks).replace("\\\n", " ").splitlines():
        line = re.sub(r"(^|\s+)#.*", "", line)
        for command in re.split(r"; do |; done|&& ", line):
            yield re.sub(r"\$\{?\w+\}?", "x", command)


@functools.cache
def help_of(recipe):
    return subprocess.run([recipe / "run.sh", "--help"], capture_output=True, text=True).stdout


def test_there_are_commands():
    assert len([c for page in PAGES for c in commands(page) if PROGRAM.match(c)]) > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_programs_take_what_is_printed(page):
    for command in commands(page):
        if program := PROGRAM.match(command):
            parser = importlib.import_module(f"espnet_blora.bin.{program[1]}").get_parser()
            words = shlex.split(program[2])
            parser.parse_intermixed_args(words)  # SystemExit: it does not
            assert not {word.partition("=")[0] for word in words} & set(parser._renamed)
        elif run := re.match(r"\s*\./run\.sh (.*)", command):
            recipe = page.parent if page.parent.name == "asr1" else CUSTOM
            help_ = help_of(recipe)
            for option in re.findall(r"--([a-z_]+)", run[1]):
                assert f"--{option} " in help_, f"{command}: --{option}"


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.match("asr1/README.md")], ids=lambda p: p.parts[-3]
)
def test_a_readme_is_read_in_five_minutes(page):
    text = page.read_text(encoding="utf-8")
    assert text.count("\n") <= 90
    for name in re.findall(r"`(docs/\w+\.md)`", text):
        assert (ROOT / name).is_file(), name
