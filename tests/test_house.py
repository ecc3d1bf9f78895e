"""The rules of the house (CONTRIBUTING.md), and proof that each checker sees a broken rule."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "espnet_blora"

# What each room may import of ours; __init__ and run are the package's own two modules.
MAY_IMPORT = {
    "text": set(),
    "adapters": set(),
    "whisper": set(),
    "data": {"text"},
    "scoring": {"text"},
    "decoding": {"whisper", "adapters"},
    "report": {"scoring", "adapters"},
    "export": {"whisper", "adapters"},
    "plugin": None,  # everything
    "bin": None,
    "run": {"plugin"},
    "__init__": {"adapters"},
}
# Other people's packages that only some rooms may import; kaldiio's licence keeps it out of all.
ONLY_IN = {
    "espnet": {"plugin"},
    "espnet2": {"plugin"},
    "espnet3": {"plugin"},
    "omniio": {"plugin", "data"},
    "whisper": {"whisper", "decoding", "export", "plugin", "bin"},
    "kaldiio": set(),
}
MOST_LINES = 400
SKIP = {"__pycache__", "venv", ".envs", "espnet", "sctk", "TEMPLATE", "exp", "dump", "downloads"}


def imported(path: Path, package: str) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every import in a file, lazy and by-name ones included."""
    here = package.split(".")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def import_breaches(root: Path) -> list[str]:
    found = []
    top = root / PACKAGE
    for path in sorted(top.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        room = parts[1]
        where = path.relative_to(root)
        if room not in MAY_IMPORT:
            found.append(f"{where}: no such room in the house: {room}")
            continue
        allowed = MAY_IMPORT[room]
        for line, name in imported(path, ".".join(parts[:-1])):
            pieces = name.split(".")
            if pieces[0] != PACKAGE:
                if room not in ONLY_IN.get(pieces[0], {room}):
                    found.append(f"{where}:{line}: {room} imports {pieces[0]}")
            elif allowed is not None and pieces[1:2] != ["__version__"]:
                # `from espnet_blora import add_adapter` is the room that __init__ takes it from.
                target = pieces[1] if len(pieces) > 1 and pieces[1] in MAY_IMPORT else "adapters"
                if target not in allowed | {room}:
                    found.append(f"{where}:{line}: {room} imports {target}")
    return found


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
    found = []
    for path in sorted((root / PACKAGE / "bin").glob("*.py")):
        if path.name == "__init__.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        found += [
            f"{path.relative_to(root)}: has no {name}()"
            for name in ("get_parser", "main")
            if name not in defined
        ]
    return found


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


@pytest.mark.parametrize("check", [import_breaches, long_files, odd_programs, bare_keys])
def test_house_keeps_its_rules(check):
    assert check(ROOT) == []


def test_checkers_look_at_what_is_there():
    """The four checks above cannot pass by finding no files."""
    assert len(list((ROOT / PACKAGE).rglob("*.py"))) > 20
    assert {p.name for p in our_files(ROOT, {".sh"})} >= {"setup.sh", "run.sh"}
    assert list((ROOT / PACKAGE / "bin").glob("[a-z]*.py"))
    assert [p for p in our_files(ROOT / "egs2", {".yaml"}) if "conf" in p.parts]


def plant(root: Path, path: str, text: str = "") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("text/a.py", "import espnet_blora.scoring.errors", "text imports scoring"),
        ("text/a.py", "from ..scoring import errors", "text imports scoring"),
        ("text/a.py", "from .. import scoring", "text imports scoring"),
        ("adapters/a.py", "def f():\n    import espnet_blora.plugin", "adapters imports plugin"),
        ("adapters/a.py", "import whisper.model", "adapters imports whisper"),
        ("adapters/deep/a.py", "from ...whisper import encoder", "adapters imports whisper"),
        ("data/a.py", "from espnet_blora import add_adapter", "data imports adapters"),
        ("data/a.py", "import espnet_blora as ours", "data imports adapters"),
        ("run.py", "from espnet_blora.whisper import checkpoint", "run imports whisper"),
        ("run.py", "import espnet2.bin.asr_train", "run imports espnet2"),
        ("bin/a.py", "from espnet2.tasks.asr import ASRTask", "bin imports espnet2"),
        ("report/a.py", "import importlib as i\ni.import_module('espnet2.bin')", "imports espnet2"),
        ("plugin/a.py", "import kaldiio", "plugin imports kaldiio"),
        ("attic/a.py", "", "no such room"),
    ],
)
def test_forbidden_import_is_seen(tmp_path, path, code, said):
    plant(tmp_path, f"{PACKAGE}/{path}", code)
    breaches = import_breaches(tmp_path)
    assert len(breaches) == 1
    assert said in breaches[0]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("scoring/a.py", "from ..text.tokens import mixed_tokens\nfrom . import b\nimport jiwer"),
        ("plugin/a.py", "import espnet2, whisper\nfrom .. import adapters, data, report"),
        ("bin/a.py", "from espnet_blora import plugin, scoring, __version__"),
        ("__init__.py", "from .adapters import add_adapter"),
        ("whisper/a.py", "from whisper.model import Whisper\nfrom . import encoder"),
        ("run.py", "from espnet_blora import plugin"),
    ],
)
def test_allowed_import_passes(tmp_path, path, code):
    plant(tmp_path, f"{PACKAGE}/{path}", code)
    assert import_breaches(tmp_path) == []


def test_long_file_is_seen(tmp_path):
    plant(tmp_path, "espnet_blora/text/long.py", "x = 1\n" * (MOST_LINES + 1))
    plant(tmp_path, "espnet_blora/text/fits.py", "x = 1\n" * MOST_LINES)
    plant(tmp_path, "tools/venv/theirs.py", "x = 1\n" * 1000)
    assert long_files(tmp_path) == [f"espnet_blora/text/long.py: {MOST_LINES + 1} lines"]


def test_program_without_parser_is_seen(tmp_path):
    plant(tmp_path, "espnet_blora/bin/__init__.py")
    plant(tmp_path, "espnet_blora/bin/good.py", "def get_parser(): ...\ndef main(): ...\n")
    plant(tmp_path, "espnet_blora/bin/bad.py", "def main(): ...\n")
    assert odd_programs(tmp_path) == ["espnet_blora/bin/bad.py: has no get_parser()"]


def test_key_without_comment_is_seen(tmp_path):
    text = "# the rank\nrank: 32\nalpha: 64  # scale\nbeta: 0.5\nconf:\n- a\n- b: '#x'\n"
    plant(tmp_path, "egs2/corpus/asr1/conf/train.yaml", text)
    plant(tmp_path, "egs2/corpus/asr1/data/other.yaml", "bare: 1\n")
    found = bare_keys(tmp_path)
    assert [line.split(":")[1] for line in found] == ["4", "7"]
