"""Fetch a published Whisper into openai-whisper's cache, once, before jobs race for it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from espnet_blora.utils.program import Parser, program


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("fetch_whisper", __doc__)
    parser.add_argument("size", help="such as small, large-v3 or large-v3-turbo")
    return parser


def fetch(size: str) -> Path:
    """Return the file of a published size, fetched unless it is there with the right SHA-256.

    Raises:
        ValueError: An unknown size, or one that cannot be fetched.
    """
    import whisper

    from espnet_blora.whisper.checkpoint import cache_folder, is_published, not_fetched

    if not is_published(size):
        sizes = ", ".join(whisper.available_models())
        raise ValueError(f"Whisper {size!r}: no such file and no published size; sizes: {sizes}")
    try:
        # load_model fetches by this too; alone it does without building the model (6 GB for large)
        return Path(whisper._download(whisper._MODELS[size], cache_folder(), False))
    except (RuntimeError, OSError) as error:
        raise ValueError(not_fetched(size, error)) from error


def work(args: argparse.Namespace) -> None:
    """Fetch, and print where the file is."""
    sys.stdout.write(f"Whisper {args.size}: {fetch(args.size)}\n")


main = program(get_parser, work)

if __name__ == "__main__":
    sys.exit(main())
