"""Check a copy of a corpus before hours are lost: what it holds beside what is expected.

Exit status 1: something that is needed is missing.
"""

from __future__ import annotations

import argparse
import sys

from espnet_blora.bin._common import add_corpus
from espnet_blora.data.check import check, complete, table
from espnet_blora.data.registry import get_corpus
from espnet_blora.utils.program import Parser, pairs, program


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("check_corpus", __doc__)
    add_corpus(parser)
    parser.add_argument("folder", nargs="?", help="the same as --corpus_dir")
    parser.add_argument("--corpus_dir", help="where your copy of the corpus is")
    return parser


def work(args: argparse.Namespace) -> int:
    """Print the table; return 1 if something that is needed is missing.

    Raises:
        ValueError: The folder is given twice or not at all.
    """
    if (args.folder is None) == (args.corpus_dir is None):
        raise ValueError("give the folder of your copy once: --corpus_dir FOLDER")
    corpus = get_corpus(args.corpus)
    items = check(
        corpus, args.corpus_dir or args.folder, pairs(args.corpus_option, "--corpus_option")
    )
    sys.stdout.write(table(corpus, items) + "\n")
    return 0 if complete(items) else 1


main = program(get_parser, work)

if __name__ == "__main__":
    sys.exit(main())
