"""Prepare a corpus: Kaldi directories and one 16 kHz FLAC file per utterance."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from espnet_blora.bin._common import add_corpus
from espnet_blora.data.prepare import MAX_LOST, prepare
from espnet_blora.data.registry import get_corpus
from espnet_blora.utils.program import Parser, pairs, program


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("prepare_corpus", __doc__)
    add_corpus(parser)
    parser.add_argument("--corpus_dir", required=True, help="where your copy of the corpus is")
    parser.add_argument(
        "--sets",
        required=True,
        help="names of sets, with blanks between them; "
        "<set>_join<SECONDS> joins a training set's segments",
    )
    parser.add_argument(
        "--data_dir", required=True, help="directories go to DATA_DIR/<prefix><set>"
    )
    parser.add_argument("--clips_dir", required=True, help="clips go to CLIPS_DIR/<prefix><set>")
    parser.add_argument("--prefix", default="", help="put before the names of sets")
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--max_lost",
        type=float,
        help="share of a set whose audio may be missing or broken "
        f"(default: {MAX_LOST}, and 0 for test sets)",
    )
    parser.renamed("--root", "--corpus_dir")
    parser.renamed("--audio_dir", "--clips_dir")
    return parser


def work(args: argparse.Namespace) -> None:
    """Prepare the sets, and print their sizes beside the published ones."""
    counter: Callable[[str], int] | None = None
    if "_join" in args.sets:
        from espnet_blora.whisper.vocabulary import count_tokens  # imports torch

        counter = count_tokens
    summary = prepare(
        get_corpus(args.corpus),
        args.corpus_dir,
        args.sets.split(),
        args.data_dir,
        args.clips_dir,
        pairs(args.corpus_option, "--corpus_option"),
        args.nj,
        args.prefix,
        args.max_lost,
        counter,
    )
    sys.stdout.write("\n".join(summary.lines()) + "\n")


main = program(get_parser, work)

if __name__ == "__main__":
    sys.exit(main())
