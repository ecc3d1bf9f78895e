"""A copy of tools/ in a folder of its own, and a PATH with only the programs we put there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDED = """
awk bash basename cat chmod cp cut date df dirname env false find flock grep gzip head ln mkdir
mktemp mv perl printf readlink rm sed sha256sum sleep sort stat tail tar timeout touch tr true
uname wc
""".split()


class Checkout:
    """A checkout as git would make it, with nothing set up, on a machine that we decide about."""

    def __init__(self, folder: Path):
        self.root = folder / "a checkout"  # a blank in the path must not matter
        self.tools = self.root / "tools"
        self.programs = folder / "bin"
        self.home = folder / "home"
        for path in (self.programs, self.home):
            path.mkdir()
        skip = shutil.ignore_patterns("venv", ".*", "espnet", "sctk", "bin", "__pycache__")
        shutil.copytree(ROOT / "tools", self.tools, ignore=skip)
        shutil.copy(ROOT / "Makefile", self.root)
        for name in NEEDED:
            (self.programs / name).symlink_to(shutil.which(name))

    def program(self, name: str, script: str, folder: Path | None = None) -> Path:
        path = (folder or self.programs) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    def python(self, name: str, version=(3, 12), folder=None, pip="exit 0", ensurepip=True) -> Path:
        """A Python of that version: it answers probes like the real one, makes small venvs at once.

        `pip` is the shell script run for `-m pip install` and `-m pip download` in its venvs.
        Without `ensurepip` it is Debian's without python3-venv: only `venv --without-pip` works.
        """
        inner = f"""
            case "$*" in
            *".whl/pip install"*) echo "$*" >>"{self.home}/pip.log" ;;
            *"pip install"* | *"pip download"*) echo "$*" >>"{self.home}/pip.log"; {pip} ;;
            *) exit 0 ;;
            esac"""
        fake = f"import sys; sys.version_info = {(*version, 1, 'final', 0)!r}; "
        with_pip = "true" if ensurepip else "exit 1"
        if not ensurepip:
            fake += "sys.modules['ensurepip'] = None; "
        return self.program(
            name,
            f"""
            if [ "$1" = -m ] && [ "$2" = venv ]; then
                if [ "$3" = --without-pip ]; then shift; else {with_pip}; fi
                mkdir -p "$3/bin"
                printf '#!/bin/bash\\n%s\\n' {inner!r} >"$3/bin/python"
                chmod +x "$3/bin/python"
                exit
            fi
            if [ "$1" = -m ]; then
                exit 1
            fi
            if [ "$1" = - ]; then
                shift
                {{ echo {fake!r}; echo 'sys._base_executable = "'"$0"'"'; cat; }} |
                    exec {sys.executable} - "$@"
            elif [ "$1" = -c ]; then
                exec {sys.executable} -c {fake!r}"$2"
            elif [ "$1" = --version ]; then
                echo Python {version[0]}.{version[1]}.1
            fi""".replace(repr(inner), "'" + inner.replace("'", "'\\''") + "'"),
            folder,
        )

    def run(self, script: str, *args: str, **env: str):
        """Run tools/SCRIPT on the pretended machine."""
        command = ["bash", str(self.tools / script), *args]
        return subprocess.run(
            command,
            env=self.env(**env),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def env(self, **more: str) -> dict[str, str]:
        return {"PATH": str(self.programs), "HOME": str(self.home), "LC_ALL": "C", **more}

    def made(self) -> set[str]:
        """What set-up has left in tools/, other than the files of the repository and its locks."""
        tracked = set(os.listdir(ROOT / "tools"))
        own = {"venv", ".envs", "espnet", "sctk", ".sclite_missing"}
        return {n for n in os.listdir(self.tools) if n not in tracked or n in own} - {".setup.lock"}


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)
