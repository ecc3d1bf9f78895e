"""The console entry: which program runs, what the list shows, and that it is quick."""

import subprocess
import sys
from pathlib import Path

import pytest

from espnet_blora import __main__ as entry
from espnet_blora import __version__

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A `bin/` of one program that can be imported and one that cannot."""
    (tmp_path / "say_hello.py").write_text(
        '"""Say hello.\n\nMore."""\n\n\ndef main(argv):\n    print("hello", *argv)\n    return 1\n'
    )
    (tmp_path / "broken.py").write_text('"""Cannot be imported."""\nraise RuntimeError\n')
    (tmp_path / "_common.py").write_text('"""No program."""\n')
    monkeypatch.setattr(entry, "BIN", tmp_path)
    monkeypatch.setattr("espnet_blora.bin.__path__", [str(tmp_path)])
    yield tmp_path
    for name in ("say_hello", "broken"):
        sys.modules.pop(f"espnet_blora.bin.{name}", None)


@pytest.mark.parametrize("name", ["say_hello", "say-hello"])
def test_words_and_status_are_the_programs(folder, capsys, name):
    assert entry.main([name, "--to", "all"]) == 1
    assert capsys.readouterr().out == "hello --to all\n"


def test_the_list_has_first_lines_and_imports_nothing(folder, capsys):
    assert entry.main(["--help"]) == 0
    listed = capsys.readouterr().out.partition("programs:\n")[2].splitlines()
    assert listed == ["  broken     Cannot be imported.", "  say_hello  Say hello."]


def test_an_unknown_program_is_a_mistake_with_a_hint(folder, capsys):
    assert entry.main(["say-helo"]) == 2
    assert "'say_hello'" in capsys.readouterr().err
    assert entry.main(["xyz"]) == 2
    assert "--help" in capsys.readouterr().err
    assert entry.main([]) == 2


def test_version(capsys):
    assert entry.main(["--version"]) == 0
    assert capsys.readouterr().out.split()[-1] == __version__


def test_every_program_is_listed_with_a_line():
    listed = entry.usage().partition("programs:\n")[2].splitlines()
    assert {"transcribe", "score", "report", "sweep"} <= {line.split()[0] for line in listed}
    assert all(len(line.split()) > 3 for line in listed)


def test_the_command_of_the_activated_environment_is_quick():
    """As installed by pip it is the same function; neither torch nor yaml is imported for it."""
    code = (
        "import sys; from espnet_blora.__main__ import main; status = main(['--version']);"
        "print(sorted({'torch', 'numpy', 'yaml', 'argparse'} & set(sys.modules)), status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[] 0"
    command = f'. "{ROOT}/tools/activate_python.sh" && cd / && espnet-blora --version'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == f"espnet-blora {__version__}\n"
