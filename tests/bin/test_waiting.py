"""Waiting threads of a program's torch sleep, unless the user has said how they wait."""

import os
import subprocess
import sys

import pytest

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def of_torch(code, given):
    """What torch's OpenMP has read: how often a waiting thread turns before it sleeps."""
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE"} | given
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("torch's OpenMP is not GNU's")
    return int(done.stderr.partition("GOMP_SPINCOUNT = '")[2].partition("'")[0])


@pytest.mark.parametrize("program", ["transcribe", "sweep", "confidence"])
def test_the_policy_stands_before_torch_is_loaded(program):
    entry = f"import espnet_blora.__main__, espnet_blora.bin.{program}, torch"
    assert of_torch(entry, {}) == 0


def test_the_users_own_stays():
    entry = "import espnet_blora.bin.transcribe, torch"
    assert of_torch(entry, {"GOMP_SPINCOUNT": "5"}) == 5
    assert of_torch(entry, {"OMP_WAIT_POLICY": "ACTIVE"}) > 0
