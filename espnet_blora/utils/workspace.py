"""A folder outside the repository in which recipes run, laid out as the repository is.

    DIR/tools                  ESPnet's template, and scripts that recipes source
    DIR/tools/venv             the Python environment that made the folder (a link)
    DIR/egs2/<name>/asr1       a recipe

The files come from the installed package, which carries them in `skeleton/` (setup.py), or from the
checkout that the package lies in.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from espnet_blora.utils import atomic
from espnet_blora.utils.mistakes import did_you_mean

PACKAGE = Path(__file__).resolve().parents[1]
TOOLS = ("activate_python.sh", "espnet.lock", "extra_path.sh", "lib.sh", "setup_espnet.sh")
PARTS = ("*.md", "*.png", "run.sh", "cmd.sh", "conf/*", "conf/*/*", "local/*", "base/*.safetensors")
LINKS = ("asr.sh", "db.sh", "path.sh", "pyscripts", "scripts", "steps", "utils")
QUEUES = ("pbs.conf", "queue.conf", "slurm.conf")
PRIVATE = "db.local.sh"


def source() -> Path:
    """Return where the files are: the package's `skeleton`, or the checkout's top."""
    return PACKAGE / "skeleton" if (PACKAGE / "skeleton").is_dir() else PACKAGE.parent


def recipes(top: Path) -> dict[str, Path]:
    """Return the recipes below a folder that is laid out as the repository, by name."""
    folders = (path.parent for path in sorted(top.glob("egs2/*/asr1/run.sh")))
    return {p.parent.name: p for p in folders if p.parent.name != "TEMPLATE"}


def files(top: Path) -> Iterator[Path]:
    """Yield what a distribution carries of a checkout beside the package: no links, no results."""
    yield from (top / "tools" / name for name in TOOLS)
    for recipe in recipes(top).values():
        yield from files_of(recipe)


def files_of(recipe: Path) -> Iterator[Path]:
    """Yield the files of one recipe."""
    for path in (path for part in PARTS for path in sorted(recipe.glob(part))):
        if path.is_file() and not path.is_symlink() and path.name != PRIVATE:
            yield path


def make(recipe: str, top: Path, name: str) -> Path:
    """Put a recipe into a folder, and what it needs beside it.

    Args:
        recipe: Its name.
        top: The folder; made, or made by an earlier call.
        name: What the recipe is called there.

    Returns:
        The recipe's folder.

    Raises:
        FileNotFoundError: There is no such recipe.
        OSError: A file cannot be written.
        ValueError: The name is taken or no name, or ESPnet's template cannot be had.
    """
    # What is asked for.
    known = recipes(source())
    if recipe not in known:
        hint = did_you_mean(recipe, known)
        raise FileNotFoundError(f"no recipe {recipe!r}{hint}; there are: {', '.join(known)}")
    target = top / "egs2" / name / "asr1"
    if not re.fullmatch(r"[A-Za-z]\w*", name) or name == "TEMPLATE":
        raise ValueError(f"{name!r} cannot be a recipe's name: letters, digits and _ make one")
    if target.exists():
        raise ValueError(f"{target} is there already: give another --name, or remove it")

    # What all recipes share.
    tools = top / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    for file in TOOLS:
        shutil.copy2(source() / "tools" / file, tools)
    atomic.link(tools / "venv", sys.prefix)
    if subprocess.run(["bash", tools / "setup_espnet.sh"], check=False).returncode:
        raise ValueError(f"{tools}: ESPnet's template could not be had, see above")
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic.link(top / "egs2" / "TEMPLATE", "../tools/espnet/egs2/TEMPLATE")

    # The recipe, and another that it takes files from.
    with atomic.new_folder(target) as part:
        (part / "conf").mkdir()
        for path in files_of(known[recipe]):
            copy = part / path.relative_to(known[recipe])
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
        for link in LINKS:
            (part / link).symlink_to(f"../../TEMPLATE/asr1/{link}")
        for link in QUEUES:
            (part / "conf" / link).symlink_to(f"../../../TEMPLATE/asr1/conf/{link}")
    for other in re.findall(r"\.\./\.\./(\w+)/asr1", (target / "run.sh").read_text("utf-8")):
        if not (top / "egs2" / other).exists():
            make(other, top, other)
    return target
