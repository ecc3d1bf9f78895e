"""A user's mistake as one line; everything unknown keeps its traceback."""

import logging
import os
import re
import traceback
from pathlib import Path

DEBUG = "ESPNET_BLORA_DEBUG"
PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep

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
