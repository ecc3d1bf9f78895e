"""The C library's allocator, set for programs that make and free large tensors at every step."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
MOST = 2**31 - 1  # bytes; mallopt takes an int


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next tensor; does nothing with another C library.

    By default each tensor of 32 MB or more is mapped from the kernel anew, which fills it with
    zeros page by page as it is written. Settings of the user (`MALLOC_...`, `GLIBC_TUNABLES`)
    stay.
    """
    theirs = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if theirs or not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MOST)
        mallopt(M_TRIM_THRESHOLD, MOST)
