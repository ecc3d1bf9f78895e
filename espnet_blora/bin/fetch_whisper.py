"""Fetch a published Whisper into openai-whisper's cache, once, before jobs race for it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import whisper

from espnet_blora.whisper.checkpoint import is_published


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", help="such as small, large-v3 or large-v3-turbo")
    return parser


def fetch(size: str) -> Path:
    """Return the file of a published size, fetched unless it is there with the right SHA-256.

    Raises: ValueError for an unknown size; RuntimeError or OSError when it cannot be fetched.
    """
    if not is_published(size):
        sizes = ", ".join(whisper.available_models())
        raise ValueError(f"Whisper {size!r}: no such file and no published size; sizes: {sizes}")
    cache = os.getenv("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    # load_model fetches by this too; alone it does without building the model (6 GB for large)
    return Path(whisper._download(whisper._MODELS[size], os.path.join(cache, "whisper"), False))


def main(argv: list[str] | None = None) -> None:
    """Fetch; a failure is one line and status 1."""
    args = get_parser().parse_args(argv)
    try:
        sys.stdout.write(f"Whisper {args.size}: {fetch(args.size)}\n")
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(
            f"fetch_whisper: error: {error}; fetch it where there is a network, or give a file"
        )


if __name__ == "__main__":
    main()
