"""Waiting threads of a program's torch sleep, unless the user has said how they wait."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def spins(program, given):
    """How often a waiting thread turns before it sleeps, as torch's OpenMP reads it when it loads.

    Only that library is loaded, where torch would be; torch itself takes seconds.
    """
    folder = Path(importlib.util.find_spec("torch").origin).parent / "lib"
    library = next(map(str, folder.glob("libgomp*")), None)
    if library is None:
        pytest.skip("torch's OpenMP is not GNU's")
    code = f"import ctypes, sys, {program}; assert 'torch' not in sys.modules\n"
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE"} | given
    command = [sys.executable, "-c", f"{code}ctypes.CDLL({library!r})"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(done.stderr.partition("GOMP_SPINCOUNT = '")[2].partition("'")[0])


@pytest.mark.parametrize("program", ["transcribe", "sweep", "confidence"])
def test_the_policy_stands_before_torch_is_loaded(program):
    assert spins(f"espnet_blora.__main__, espnet_blora.bin.{program}", {}) == 0


def test_the_users_own_stays():
    program = "espnet_blora.bin.transcribe"
    assert spins(program, {"GOMP_SPINCOUNT": "5"}) == 5
    assert spins(program, {"OMP_WAIT_POLICY": "ACTIVE"}) > 0
