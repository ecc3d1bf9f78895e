"""Users' mistakes: the errors that are one, near misses of a wrong word, numbers read from text."""

from __future__ import annotations

import difflib
import logging
import math
import os
import re
import traceback
from collections.abc import Iterable
from pathlib import Path

DEBUG = "ESPNET_BLORA_DEBUG"
"""Environment variable: 1 shows the traceback of a user's mistake."""

# Not resolved: where a link leads to the checkout, frames have the link's name, too.
PACKAGE = str(Path(__file__).absolute().parents[1]) + os.sep

# How torch's DataLoader passes on what a worker process raised: the traceback is in the text.
_OF_WORKER = re.compile(r"Caught \w+ in .*worker process")
_FRAME = re.compile(r'^\s*File "([^"]+)", line \d+', re.MULTILINE)
_LAST_LINES = re.compile(r"^(?:ValueError|FileNotFoundError|OSError): (?=\S)", re.MULTILINE)


def users_mistake(error: BaseException) -> str | None:
    """Return the message of an error that this package raised to tell a user what to correct.

    Those are ValueError, FileNotFoundError and other OSErrors whose innermost frame lies in this
    package, also when a data-loading worker raised them. ESPnet's and torch's own errors, and
    everything else, give None: their traceback is needed.
    """
    if not isinstance(error, (ValueError, OSError)):
        return None
    text = str(error)
    if _OF_WORKER.match(text):
        files, starts = _FRAME.findall(text), list(_LAST_LINES.finditer(text))
        if not (files and starts and files[-1].startswith(PACKAGE)):
            return None
        return text[starts[-1].end() :].strip()
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not frames[-1].filename.startswith(PACKAGE):
        return None
    return " ".join([text, *(f"({note})" for note in getattr(error, "__notes__", ()))])


def wants_traceback() -> bool:
    """Tell whether the user asks for tracebacks: ESPNET_BLORA_DEBUG=1, or --log_level DEBUG."""
    return bool(os.environ.get(DEBUG)) or logging.getLogger().isEnabledFor(logging.DEBUG)


def near_misses(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the `count` known words most like `word`, best first.

    >>> near_misses("qeury", ["key", "query", "value"])
    ['query', 'key']
    """
    return difflib.get_close_matches(str(word), sorted(set(known)), n=count, cutoff=0.5)


def did_you_mean(word: str, known: Iterable[str], count: int = 1) -> str:
    """Return the end of an error message that names near misses; empty if there are none.

    >>> did_you_mean("blroa", ["lora", "blora"])
    "; did you mean 'blora'?"
    >>> did_you_mean("xyz", ["lora"])
    ''
    """
    near = near_misses(word, known, count)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def parse_scale(text: str, where: str) -> float:
    """Return the adapter scale written in `text`, a finite number >= 0.

    Raises:
        ValueError: `text` is anything else; `where` tells the user which option to correct.
    """
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not (math.isfinite(scale) and scale >= 0):
        raise ValueError(
            f"{where}: found {text!r}, allowed is a finite number >= 0 "
            "(1 decodes with the adapter as trained, 0 with the base model)"
        )
    return scale
