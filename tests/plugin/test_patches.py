"""The table of ESPnet's places is whole, and applied as a whole or not at all."""

import ast
import importlib
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch

from espnet_blora import plugin
from espnet_blora.plugin import patches
from espnet_blora.plugin.patches import PATCHES, Patch

PACKAGE = Path(plugin.__file__).resolve().parents[1]
FILES = [*sorted((PACKAGE / "plugin").glob("*.py")), PACKAGE / "run.py"]
PLACES = [patch.place for patch in PATCHES]
ESPNET = re.compile(r"espnet[23]?(\.|$)")

# -- one place is gone: nothing is replaced ------------------------------------------------------


@pytest.mark.parametrize("patch", PATCHES, ids=PLACES)
def test_a_place_that_is_gone_is_named_and_nothing_is_replaced(patch, monkeypatch):
    before = [patches.present(other) for other in PATCHES]
    owner, last = patches._owner(patch)
    with monkeypatch.context() as removed:
        if isinstance(owner, Mapping):
            removed.delitem(owner, last)
        else:
            removed.delattr(owner, last)
        with pytest.raises(ValueError, match="pip install espnet==202611") as caught:
            patches.apply.__wrapped__(PATCHES)
    assert f"{patch.place} is gone; needed for: {patch.why}" in str(caught.value)
    after = [patches.present(other) for other in PATCHES]
    assert all(old is new for old, new in zip(before, after, strict=True))


def test_a_module_and_a_line_that_are_gone_are_named():
    table = (
        Patch("espnet2.utils.no_such_module", "x", why="one"),
        Patch("espnet2.utils.types", "str2bool", why="two", relies_on=("def str2bool",)),
        Patch("espnet2.utils.types", "str2bool", why="three", relies_on=("no such line",)),
        Patch("espnet2", "__version__", why="four", relies_on=("a text has no source",)),
    )
    lines = patches.moved(table)
    assert len(lines) == 3
    assert "no_such_module" in lines[0] and "one" in lines[0]
    assert "'no such line'" in lines[1] and "three" in lines[1]
    assert "__version__" in lines[2] and "four" in lines[2]
    assert len(patches.moved(table, read_source=False)) == 1


def test_a_replacement_that_cannot_be_made_leaves_all_as_it_was():
    def fails(original):
        raise RuntimeError("no")

    from espnet2.utils import types

    before = types.str2bool
    with pytest.raises(RuntimeError):
        patches.apply(
            (
                Patch("espnet2.utils.types", "str2bool", why="a", by=lambda original: len),
                Patch("espnet2.utils.types", "int_or_none", why="b", by=fails),
            )
        )
    assert types.str2bool is before


# -- other releases ------------------------------------------------------------------------------


def test_another_release_is_read_in_full(monkeypatch, caplog):
    import espnet2

    changed = Patch("espnet2.utils.types", "str2bool", why="x", relies_on=("no such line",))
    patches.apply((changed,))  # the release whose source was read: the place is there
    monkeypatch.setattr(espnet2, "__version__", "209901")
    with pytest.raises(ValueError, match=r"209901.*no such line.*pip install espnet==202611"):
        patches.apply.__wrapped__((changed,))
    patches.apply((Patch("espnet2.utils.types", "str2bool", why="y"),))
    assert "209901" in caplog.text and "202611" in caplog.text


# -- ESPnet 202611 as it is installed ------------------------------------------------------------

FRESH = """
import json
import sys
import espnet2
from espnet_blora import plugin, run
from espnet_blora.plugin import patches

assert espnet2.__version__ == patches.RELEASE, espnet2.__version__
moved = patches.moved()
stock = [patches.present(patch) for patch in patches.PATCHES]
run.main(["--whisper", "tiny", sys.argv[1]])  # a script, which finds all plugged in
once = [patches.present(patch) for patch in patches.PATCHES]
plugin.register(whisper="base", new_languages=["rw"])
twice = [patches.present(patch) for patch in patches.PATCHES]
print(json.dumps({
    "moved": moved,
    "replaced": [p.place for p, a, b in zip(patches.PATCHES, stock, once) if a is not b],
    "again": [p.place for p, a, b in zip(patches.PATCHES, once, twice) if a is not b],
    "settings": [plugin.Settings.current().whisper, *plugin.Settings.current().new_languages],
}))
"""


SCRIPT = """
from espnet2.tasks.asr import encoder_choices
from espnet_blora.plugin.settings import Settings
print(__name__, encoder_choices.get_class("whisper").__module__, Settings.current().whisper)
"""


def test_every_place_is_in_espnet_and_is_replaced_once_also_for_a_script(tmp_path):
    (tmp_path / "mine.py").write_text(SCRIPT)
    # In a fresh process: other tests have replaced the functions of this one.
    command = [sys.executable, "-c", FRESH, str(tmp_path / "mine.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    script, report = done.stdout.splitlines()[-2:]
    assert script == "__main__ espnet_blora.plugin.whisper_parts tiny"
    report = json.loads(report)
    assert report["moved"] == []
    by = [patch.place for patch in PATCHES if patch.by is not None]
    # A table of classes, such as `model_choices.classes`, is the same object with a new entry.
    assert report["replaced"] == by
    assert report["again"] == []
    assert report["settings"] == ["base", "rw"]


# -- the table holds all that this room imports and reaches --------------------------------------


def bound(tree: ast.AST) -> dict[str, str]:
    """Names of a file that stand for something of ESPnet -> its dotted name."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if ESPNET.match(alias.name):
                    top = alias.name.split(".")[0]
                    names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and ESPNET.match(node.module or ""):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def dotted(node: ast.AST, names: Mapping[str, str]) -> str | None:
    """The dotted name of `asr_inference.Speech2Text` and the like, rooted in ESPnet."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        root = dotted(node.value, names)
        return root and f"{root}.{node.attr}"
    return None


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def reached(source: str) -> set[str]:
    """Dotted names of ESPnet's objects that a file imports or reaches through an import."""
    tree = ast.parse(source)
    names = bound(tree)
    used = set(names.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (name := dotted(node, names)):
            used.add(name)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr"):
            root, key = dotted(node.args[0], names), node.args[1]
            if root and isinstance(key, ast.Constant):
                used.add(f"{root}.{key.value}")
    return {canonical(name) for name in used if not is_module(name)}


def canonical(name: str) -> str:
    """`ASRTask.main` is defined by AbsTask: the place is there."""
    parts = name.split(".")
    split = next(n for n in range(len(parts), 0, -1) if is_module(".".join(parts[:n])))
    owner = importlib.import_module(".".join(parts[:split]))
    for part in parts[split:-1]:
        owner = getattr(owner, part)
    if inspect.isclass(owner):
        home = next((base for base in owner.__mro__ if parts[-1] in vars(base)), owner)
        if home is not owner:
            return f"{home.__module__}.{home.__qualname__}.{parts[-1]}"
    return name


def in_table(name: str) -> bool:
    """Whether a place is an entry, or is named by a fragment of its class's or module's entry."""
    owner, _, last = name.rpartition(".")
    return name in PLACES or any(
        patch.place == owner and any(last in fragment for fragment in patch.relies_on)
        for patch in PATCHES
    )


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_what_is_imported_or_reached_is_in_the_table(path):
    names = reached(path.read_text(encoding="utf-8"))
    assert sorted(name for name in names if not in_table(name)) == []


OURS_IN_ESPNET = ("model", "newbob", "preprocessor", "vocabulary", "whisper_parts")
OURS_IN_ESPNET += ("espnet_inference", "batched_inference")


def inherited(cls: type) -> Iterator[str]:
    """Places of ESPnet's classes that a subclass of ours overrides or uses by inheritance."""
    bases = [base for base in cls.__mro__ if base.__module__.startswith("espnet2.")]
    own = [base for base in cls.__mro__ if base.__module__.startswith("espnet_blora.")]

    def place(name: str) -> str | None:
        home = next((base for base in bases if name in vars(base)), None)
        return home and f"{home.__module__}.{home.__name__}.{name}"

    for name in vars(cls):
        dunder = name.startswith("__") and name not in ("__init__", "__call__")
        if not dunder and name != "_abc_impl":
            yield place(name)

    # What methods read of `self` or `super()`, and neither we nor torch define.
    loads, stores = set(), set()
    for node in ast.walk(ast.parse(inspect.getsource(cls))):
        if isinstance(node, ast.Attribute):
            value = node.value
            of_self = isinstance(value, ast.Name) and value.id == "self"
            of_super = isinstance(value, ast.Call) and getattr(value.func, "id", "") == "super"
            if of_self or of_super:
                (loads if isinstance(node.ctx, ast.Load) else stores).add((node.attr, of_super))
    known = {name for base in own for name in vars(base)} | {name for name, _ in stores}
    module = torch.nn.Module()
    for name, of_super in loads:
        if (of_super or name not in known) and not hasattr(module, name):
            # An attribute that ESPnet's __init__ sets stands in no class: its first base counts.
            yield place(name) or f"{bases[0].__module__}.{bases[0].__name__}.{name}"


def classes() -> list[type]:
    modules = [importlib.import_module(f"espnet_blora.plugin.{name}") for name in OURS_IN_ESPNET]
    return [
        cls
        for module in modules
        for cls in vars(module).values()
        if inspect.isclass(cls)
        and cls.__module__ == module.__name__
        and any(base.__module__.startswith("espnet2.") for base in cls.__mro__)
    ]


def test_what_is_inherited_is_in_the_table():
    found = classes()
    assert len(found) >= 7
    names = {name for cls in found for name in inherited(cls)} - {None}
    assert len(names) > 20
    assert sorted(name for name in names if not in_table(name)) == []


def replaced_by_hand(source: str) -> list[int]:
    """Lines that assign to, delete from or update something of ESPnet."""
    tree = ast.parse(source)
    names = bound(tree)
    lines = []
    for node in ast.walk(tree):
        targets = []
        if isinstance(node, (ast.Assign, ast.Delete)):
            targets = node.targets
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("setattr", "delattr"):
            lines.append(node.lineno)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("update", "pop"):
            targets = [node.func]
        for target in targets:
            inner = target
            while isinstance(inner, (ast.Attribute, ast.Subscript)):
                inner = inner.value
            if inner is not target and dotted(inner, names):
                lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name != "patches.py"], ids=lambda path: path.name
)
def test_nothing_is_replaced_beside_the_table(path):
    lines = replaced_by_hand(path.read_text(encoding="utf-8"))
    # The launcher's options, put into the task's namespace by their names.
    source = path.read_text(encoding="utf-8").splitlines()
    assert [source[n - 1].strip() for n in lines if "setattr(args, " not in source[n - 1]] == []


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("from espnet2.utils.types import str2bool", "espnet2.utils.types.str2bool"),
        ("from espnet2.utils import types\ntypes.str2bool", "espnet2.utils.types.str2bool"),
        ("import espnet2.utils.types as t\nt.str2bool('x')", "espnet2.utils.types.str2bool"),
        (
            "def f():\n    from espnet2.tasks.asr import ASRTask\n    ASRTask.print_config()",
            "espnet2.tasks.abs_task.AbsTask.print_config",
        ),
    ],
)
def test_the_scan_sees_a_place_that_is_not_in_the_table(source, place):
    assert place in reached(source) and not in_table(place)


@pytest.mark.parametrize(
    "line",
    [
        "types.str2bool = f",
        "types.table['x'] = f",
        "types.table.update(x=f)",
        "setattr(types, 'x', f)",
        "del types.x",
    ],
)
def test_the_scan_sees_a_replacement_by_hand(line):
    assert replaced_by_hand(f"from espnet2.utils import types\n{line}\n") == [2]
    assert replaced_by_hand("names = {}\nnames.update(x=1)\n") == []
