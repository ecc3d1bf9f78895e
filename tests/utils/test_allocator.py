"""Large blocks of memory take the pages of those freed before them."""

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import resource
if {call}:
    from espnet_blora.utils.allocator import keep_freed_memory
    keep_freed_memory()
size = 2**26
bytes([120]) * size
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    bytes([120]) * size
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(call: bool, **environment: str) -> int:
    """Count the pages that four blocks of 64 MB take from the kernel."""
    code = CODE.format(call=call)
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(result.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_pages_are_taken_again_unless_the_user_says_otherwise():
    assert faults(call=True) < 1000 < 50_000 < faults(call=False)
    assert faults(call=True, MALLOC_TOP_PAD_="131072") > 50_000
