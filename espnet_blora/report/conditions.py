"""The conditions of a measurement: machine, versions, date, revision."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from espnet_blora.version import __version__

_PACKAGES = ("espnet", "torch", "openai-whisper", "jiwer", "rapidfuzz", "numpy")


def version(package: str) -> str:
    """Return an installed package's version, or "not installed"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def cpu() -> str:
    """Return the processor's name and the number of cores this process may use."""
    info = Path("/proc/cpuinfo")
    text = info.read_text("utf-8", "replace") if info.is_file() else ""
    model = re.search(r"^model name[^:]*:(.*)", text, re.MULTILINE)
    name = model[1].strip() if model else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def revision(folder: Path) -> tuple[str, str]:
    """Return the Git hash and commit date of the checkout that holds a folder, or "unknown"."""
    words = ["git", "-C", str(folder), "log", "-1", "--format=%H%n%cd"]
    try:
        git = subprocess.run(words, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown", "unknown"
    commit, date = git.stdout.splitlines()
    return commit, date


def now() -> str:
    """Return the time in UTC, as `date` prints it."""
    return datetime.now(UTC).strftime("%a %b %e %H:%M:%S UTC %Y")


def conditions(folder: Path) -> list[tuple[str, str]]:
    """Return (what, value) pairs for a report written now."""
    commit, date = revision(folder)
    pairs = [("date", now()), ("machine", cpu()), ("system", platform.platform(terse=True))]
    pairs.append(("python", platform.python_version()))
    pairs.append(("espnet_blora", __version__))
    pairs += [(package, version(package)) for package in _PACKAGES]
    return [*pairs, ("Git hash", commit), ("commit date", date)]
