"""Make a folder in which a recipe runs, without the repository: `espnet-blora new custom DIR`.

ESPnet's template, which recipes need, is fetched with pip (36 MB) and checked; ESPNET_ROOT=CHECKOUT
or ESPNET_SDIST=FILE takes it from there. A second call puts a second recipe into the same folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from espnet_blora.utils import workspace
from espnet_blora.utils.program import Parser, program


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("new", __doc__)
    known = ", ".join(workspace.recipes(workspace.source()))
    parser.add_argument("recipe", help=f"one of {known}")
    parser.add_argument("dir", type=Path, help="the folder; the recipe goes to DIR/egs2/NAME/asr1")
    parser.add_argument("--name", help="what the recipe is called there (default: as it is)")
    return parser


def work(args: argparse.Namespace) -> None:
    """Make the folder, and say how to go on."""
    recipe = workspace.make(args.recipe, args.dir.absolute(), args.name or args.recipe)
    sys.stdout.write(f"cd {recipe} && . ./path.sh  # then see README.md\n")


main = program(get_parser, work)

if __name__ == "__main__":
    sys.exit(main())
