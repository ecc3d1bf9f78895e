"""What tests of corpora share: Kaldi's own check, shuffled directory listings."""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_TEMPLATE = ROOT / "tools/espnet/egs2/TEMPLATE/asr1"


@pytest.fixture
def kaldi_says(tmp_path_factory):
    """Run Kaldi's validate_data_dir.sh on a directory; gives "" or its complaint."""
    if shutil.which("perl") is None or not (_TEMPLATE / "utils").exists():
        pytest.skip("Kaldi's scripts are not here; make env links them")

    # the script looks for "C.UTF-8" in a list where newer systems write "C.utf8", and then takes
    # every Han character for unprintable
    shim = tmp_path_factory.mktemp("bin") / "locale"
    shim.write_text("#!/bin/sh\necho C.UTF-8\n")
    shim.chmod(0o755)
    environment = {**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}"}

    def check(directory: str | Path) -> str:
        command = [
            "bash",
            "utils/validate_data_dir.sh",
            "--no-feats",
            str(Path(directory).resolve()),
        ]
        done = subprocess.run(
            command, cwd=_TEMPLATE, env=environment, capture_output=True, text=True, check=False
        )
        output = done.stdout + done.stderr
        # some of its complaints leave with status 0
        good = done.returncode == 0 and "Successfully validated data-directory" in output
        return "" if good else output or f"status {done.returncode}"

    return check


@pytest.fixture
def shuffled_listings(monkeypatch):
    """Directory listings come in another order in every call."""
    rng = random.Random(7)
    scandir, listdir = os.scandir, os.listdir

    class Shuffled:
        def __init__(self, entries):
            self.entries = entries

        def __iter__(self):
            return iter(self.entries)

        def __next__(self):
            return self.entries.pop()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def close(self):
            return None

    def in_any_order(things):
        things = list(things)
        rng.shuffle(things)
        return things

    def shuffled_scandir(*arguments):
        with scandir(*arguments) as entries:
            return Shuffled(in_any_order(entries))

    monkeypatch.setattr(os, "scandir", shuffled_scandir)
    monkeypatch.setattr(os, "listdir", lambda *a: in_any_order(listdir(*a)))


def tree(*folders: Path) -> dict[str, bytes]:
    """Every file below the folders with its bytes."""
    return {
        f"{folder.name}/{p.relative_to(folder)}": p.read_bytes()
        for folder in folders
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(name="tree")
def _tree():
    return tree
