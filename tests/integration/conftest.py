"""A checkout in miniature, in which recipes run without touching the one under test."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EGS2 = ROOT / "egs2"
TINY = EGS2 / "mini_cs" / "asr1" / "base" / "tiny_mini_cs.safetensors"


def copy_recipe(name: str, top: Path) -> Path:
    """Copy what belongs to a recipe to `top/egs2/NAME/asr1`, its links as they are."""
    source, target = EGS2 / name / "asr1", top / "egs2" / name / "asr1"
    target.mkdir(parents=True)
    for folder in ("conf", "local", "base"):
        if (source / folder).is_dir():
            shutil.copytree(source / folder, target / folder, symlinks=True)
    for path in source.iterdir():
        if path.is_symlink():
            (target / path.name).symlink_to(os.readlink(path))
        elif path.is_file():
            shutil.copy2(path, target / path.name)
    return target


class Checkout:
    """A folder with one recipe copied, and the rest linked as a checkout has it."""

    def __init__(self, top: Path, recipe: str = "mini_cs"):
        self.recipe = copy_recipe(recipe, top)
        for name in ("tools", "espnet_blora", "egs2/TEMPLATE"):
            (top / name).symlink_to(ROOT / name)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess:
        """Run a command in the recipe and return it with its output as text."""
        return subprocess.run(
            command,
            cwd=self.recipe,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("checkout"))
