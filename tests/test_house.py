"""The rules of the house (CONTRIBUTING.md), and proof that each checker sees a broken rule."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "espnet_blora"
MOST_LINES = 500
SKIP = {"__pycache__", "venv", ".envs", "espnet", "sctk", "TEMPLATE", "exp", "dump", "downloads"}


# An import that is spelt as text, which import-linter cannot see.
BY_NAME = re.compile(r"(?:import_module|__import__)\(\s*[\"'](espnet[23]?|kaldiio)\b")


def imports_by_name(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)}: {match[1]}"
        for path in sorted((root / PACKAGE).rglob("*.py"))
        if path.relative_to(root).parts[1] != "plugin"
        for match in BY_NAME.finditer(path.read_text(encoding="utf-8"))
    ]


def odd_rooms(root: Path) -> list[str]:
    """Rooms of CONTRIBUTING.md's table that are not there, and folders that are not in it."""
    table = (root / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Rooms\n")[2]
    listed = set(re.findall(r"^\| `(\w+)/` ", table, re.MULTILINE))
    rooms = {path.parent.name for path in (root / PACKAGE).glob("*/*") if path.is_file()}
    return sorted(listed ^ (rooms - {"__pycache__"}))


def our_files(root: Path, suffixes: set[str]) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(
            f
            for f in folders
            if f not in SKIP and (f == ".ci" or f[0] != ".") and not Path(folder, f).is_symlink()
        )
        for name in sorted(files):
            path = Path(folder, name)
            if path.suffix in suffixes and not path.is_symlink():
                yield path


def long_files(root: Path) -> list[str]:
    lengths = {
        p: len(p.read_text(encoding="utf-8").splitlines()) for p in our_files(root, {".py", ".sh"})
    }
    return [f"{p.relative_to(root)}: {n} lines" for p, n in lengths.items() if n > MOST_LINES]


def odd_programs(root: Path) -> list[str]:
    """Programs without one of the two functions, or whose main is not the frame's."""
    problems = []
    for path in sorted((root / PACKAGE / "bin").glob("[a-z]*.py")):
        text = path.read_text(encoding="utf-8")
        functions = {f.name: f for f in ast.parse(text).body if isinstance(f, ast.FunctionDef)}
        lacking = [] if "get_parser" in functions else ["has no get_parser()"]
        main = ast.unparse(functions["main"]) if "main" in functions else text
        if not re.search(r"^main = program\(|\brun_program\(", main, re.MULTILINE):
            lacking.append("main is not made by program() or run_program()")
        problems += [f"{path.relative_to(root)}: {lack}" for lack in lacking]
    return problems


# A key with a value; what only opens a block of further keys needs no comment of its own.
KEY = re.compile(r"^\s*(?:- )?[\w.\-\"']+\s*:\s+[^\s#]")


def bare_keys(root: Path) -> list[str]:
    """Keys of recipes' yaml without a comment on their line or on the line above."""
    found = []
    for path in our_files(root / "egs2", {".yaml", ".yml"}):
        if "conf" not in path.relative_to(root).parts:
            continue
        above = ""
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if KEY.match(line) and " #" not in line and not above.lstrip().startswith("#"):
                found.append(f"{path.relative_to(root)}:{number}: {line.strip()}: no comment")
            above = line
    return found


@pytest.mark.parametrize("check", [imports_by_name, odd_rooms, long_files, odd_programs, bare_keys])
def test_house_keeps_its_rules(check):
    assert check(ROOT) == []


def test_checkers_look_at_what_is_there():
    """The checks above cannot pass by finding no files."""
    assert len(list((ROOT / PACKAGE).rglob("*.py"))) > 20
    assert {p.name for p in our_files(ROOT, {".sh"})} >= {"setup.sh", "run.sh"}
    assert list((ROOT / PACKAGE / "bin").glob("[a-z]*.py"))
    assert [p for p in our_files(ROOT / "egs2", {".yaml"}) if "conf" in p.parts]


def plant(root: Path, path: str, text: str = "") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    """Check the contracts of pyproject.toml on the package in a folder."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


def test_rooms_import_what_they_may():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


def test_forbidden_imports_are_seen(tmp_path):
    """One breach of each kind, all in one copy of the package."""
    ignore = shutil.ignore_patterns("__pycache__", "*.yaml", "*.sh")
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path, code in {
        "text/planted.py": "from ..scoring import errors",
        "report/planted.py": "def late():\n    import espnet_blora.data.kaldi",
        "bin/planted.py": "from espnet2.tasks.asr import ASRTask",
        "adapters/planted.py": "import whisper.model",
        "plugin/planted.py": "import kaldiio",
        "utils/planted.py": "import torch",
        "data/planted.py": "from espnet_blora.data import planted_too",
        "data/planted_too.py": "from espnet_blora.data import planted",
    }.items():
        plant(tmp_path, f"{PACKAGE}/{path}", code)
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    broken = done.stdout.partition("Broken contracts")[2]
    for importer, imported in (
        (".text.planted", ".scoring.errors"),
        (".report.planted", ".data.kaldi"),
        (".bin.planted", "espnet2"),
        (".adapters.planted", "whisper"),
        (".plugin.planted", "kaldiio"),
        (".utils.planted", "torch"),
    ):
        arrow = rf"{re.escape(importer)} -> \S*{re.escape(imported)}"
        assert re.search(arrow, broken), broken
    assert "No cycles are allowed in espnet_blora.data" in broken


def test_room_that_is_not_there_is_seen(tmp_path):
    plant(tmp_path, "CONTRIBUTING.md", "\n## Rooms\n| `text/` | a |\n| `attic/` | b |\n")
    plant(tmp_path, "espnet_blora/text/a.py", 'importlib.import_module("espnet2.bin")')
    plant(tmp_path, "espnet_blora/cellar/a.py")
    assert odd_rooms(tmp_path) == ["attic", "cellar"]
    assert imports_by_name(tmp_path) == ["espnet_blora/text/a.py: espnet2"]


def test_long_file_is_seen(tmp_path):
    plant(tmp_path, "espnet_blora/text/long.py", "x = 1\n" * (MOST_LINES + 1))
    plant(tmp_path, "espnet_blora/text/fits.py", "x = 1\n" * MOST_LINES)
    plant(tmp_path, "tools/venv/theirs.py", "x = 1\n" * 1000)
    assert long_files(tmp_path) == [f"espnet_blora/text/long.py: {MOST_LINES + 1} lines"]


def test_program_beside_the_frame_is_seen(tmp_path):
    main = "def main(argv=None):\n    return run_program(get_parser(), work, argv)\n"
    plant(tmp_path, "espnet_blora/bin/__init__.py")
    plant(tmp_path, "espnet_blora/bin/_common.py")
    plant(tmp_path, "espnet_blora/bin/good.py", f"def get_parser(): ...\n{main}")
    plant(tmp_path, "espnet_blora/bin/bad.py", main)
    plant(tmp_path, "espnet_blora/bin/worse.py", "def get_parser(): ...\ndef main(): ...\n")
    assert odd_programs(tmp_path) == [
        "espnet_blora/bin/bad.py: has no get_parser()",
        "espnet_blora/bin/worse.py: main is not made by program() or run_program()",
    ]


def test_key_without_comment_is_seen(tmp_path):
    text = "# the rank\nrank: 32\nalpha: 64  # scale\nbeta: 0.5\nconf:\n- a\n- b: '#x'\n"
    plant(tmp_path, "egs2/corpus/asr1/conf/train.yaml", text)
    plant(tmp_path, "egs2/corpus/asr1/data/other.yaml", "bare: 1\n")
    found = bare_keys(tmp_path)
    assert [line.split(":")[1] for line in found] == ["4", "7"]
