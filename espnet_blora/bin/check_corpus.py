"""Check a copy of a corpus before hours are lost: what it holds beside what is expected.

Exit status 1: something that is needed is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from espnet_blora.data.check import check, complete, parse_options, table
from espnet_blora.data.registry import CORPORA, get_corpus
from espnet_blora.utils.program import Parser, run_program


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("check_corpus", __doc__)
    parser.add_argument("corpus", help=f"one of {' '.join(CORPORA)}")
    parser.add_argument("folder", nargs="?", help="the same as --corpus_dir")
    parser.add_argument("--corpus_dir", help="where your copy of the corpus is")
    parser.add_argument(
        "--corpus_option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of the corpus's reader, any number of times",
    )
    parser.renamed("--option", "--corpus_option")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    return run_program(get_parser(), work, argv)


def work(args: argparse.Namespace) -> int:
    """Print the table; return 1 if something that is needed is missing.

    Raises:
        ValueError: The folder is given twice or not at all.
    """
    if (args.folder is None) == (args.corpus_dir is None):
        raise ValueError("give the folder of your copy once: --corpus_dir FOLDER")
    corpus = get_corpus(args.corpus)
    items = check(corpus, args.corpus_dir or args.folder, parse_options(args.corpus_option))
    sys.stdout.write(table(corpus, items) + "\n")
    return 0 if complete(items) else 1


if __name__ == "__main__":
    sys.exit(main())
