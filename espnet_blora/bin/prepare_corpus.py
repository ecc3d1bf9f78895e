"""Prepare a corpus: Kaldi directories and one 16 kHz FLAC an utterance."""

import argparse
import logging
import os
import sys

from espnet_blora.data.check import parse_options
from espnet_blora.data.prepare import prepare
from espnet_blora.data.registry import CORPORA, get_corpus


def get_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", help=f"one of {' '.join(CORPORA)}")
    parser.add_argument("--root", required=True, help="where your copy of the corpus is")
    parser.add_argument("--sets", required=True, help="names of sets, with blanks between them")
    parser.add_argument(
        "--data_dir", required=True, help="directories go to DATA_DIR/<prefix><set>"
    )
    parser.add_argument("--audio_dir", required=True, help="clips go to AUDIO_DIR/<prefix><set>")
    parser.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="of the corpus"
    )
    parser.add_argument("--prefix", default="", help="put before the names of sets")
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="processes [all cores]")
    parser.add_argument(
        "--max_lost",
        type=float,
        default=0.05,
        help="share of a set whose audio may be missing or broken [0.05]",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Prepare the sets and print found beside published; status 2 and one line on a mistake."""
    args = get_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        summary = prepare(
            get_corpus(args.corpus),
            args.root,
            args.sets.split(),
            args.data_dir,
            args.audio_dir,
            parse_options(args.option),
            args.nj,
            args.prefix,
            args.max_lost,
        )
    except (OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"prepare_corpus: {error}\n")
        sys.exit(2)
    sys.stdout.write("\n".join(summary.lines()) + "\n")


if __name__ == "__main__":
    main()
