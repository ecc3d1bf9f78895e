"""Say where the shared part of the recipes lies, or which variables name corpora.

`. "$(python3 -m espnet_blora.bin.recipe run.sh)" "$@"` is the last line of every `run.sh`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "recipes"


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python3 -m espnet_blora.bin.recipe", description=__doc__.splitlines()[0]
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("file", nargs="?", help="a file of the shared part, such as run.sh")
    what.add_argument("--variables", action="store_true", help="variables that name corpora")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print what was asked for."""
    args = get_parser().parse_args(argv)
    if args.variables:
        from espnet_blora.data.registry import CORPORA, get_corpus  # the corpora's modules: slow

        names = sorted({get_corpus(name).variable for name in CORPORA} - {""})
        sys.stdout.write("\n".join(names) + "\n")
        return 0
    path = FOLDER / args.file
    if not path.is_file():
        there = sorted(str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*") if p.is_file())
        sys.stderr.write(f"recipe: error: no {args.file}; there are: {', '.join(there)}\n")
        return 2
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
