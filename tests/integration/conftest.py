"""A checkout in miniature, in which recipes run without touching the one under test."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "egs2" / "mini_cs" / "asr1"


class Checkout:
    """A folder with egs2/mini_cs/asr1 copied, and the rest linked as a checkout has it."""

    def __init__(self, top: Path):
        self.recipe = top / "egs2" / "mini_cs" / "asr1"
        self.recipe.mkdir(parents=True)
        for name in ("tools", "espnet_blora", "egs2/TEMPLATE"):
            (top / name).symlink_to(ROOT / name)
        for name in ("conf", "local", "base"):
            shutil.copytree(RECIPE / name, self.recipe / name)
        for path in RECIPE.iterdir():
            if path.is_symlink():
                (self.recipe / path.name).symlink_to(os.readlink(path))
            elif path.is_file():
                shutil.copy2(path, self.recipe / path.name)

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
