"""Check a copy of a corpus before an hour is lost: found beside expected."""

import argparse
import sys

from espnet_blora.data.check import check, complete, parse_options, table
from espnet_blora.data.registry import CORPORA, get_corpus


def get_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", help=f"one of {' '.join(CORPORA)}")
    parser.add_argument("root", help="where your copy of the corpus is")
    parser.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="of the corpus"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Print the table; status 1 if something needed is missing, 2 on a mistake."""
    args = get_parser().parse_args(argv)
    try:
        corpus = get_corpus(args.corpus)
        items = check(corpus, args.root, parse_options(args.option))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"check_corpus: {error}\n")
        sys.exit(2)
    sys.stdout.write(table(corpus, items) + "\n")
    sys.exit(0 if complete(items) else 1)


if __name__ == "__main__":
    main()
