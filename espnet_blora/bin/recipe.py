"""Print where the shared part of the recipes lies, or which variables name corpora.

`. "$(python3 -m espnet_blora.bin.recipe run.sh)" "$@"` is the last line of every `run.sh`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from espnet_blora.utils.program import Parser, program

FOLDER = Path(__file__).resolve().parents[1] / "recipes"


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("recipe", __doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("file", nargs="?", help="a file of the shared part, such as run.sh")
    what.add_argument("--variables", action="store_true", help="variables that name corpora")
    return parser


def work(args: argparse.Namespace) -> None:
    """Print a file's path, or the variables.

    Raises:
        FileNotFoundError: The shared part has no such file; names those that it has.
    """
    if args.variables:
        from espnet_blora.data.registry import CORPORA, get_corpus  # the corpora's modules: slow

        names = sorted({get_corpus(name).variable for name in CORPORA} - {""})
        sys.stdout.write("\n".join(names) + "\n")
        return
    path = FOLDER / args.file
    if not path.is_file():
        known = sorted(str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*") if p.is_file())
        raise FileNotFoundError(f"no {args.file}; there are: {', '.join(known)}")
    sys.stdout.write(f"{path}\n")


main = program(get_parser, work)

if __name__ == "__main__":
    sys.exit(main())
