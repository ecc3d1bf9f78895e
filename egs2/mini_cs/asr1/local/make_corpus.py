#!/usr/bin/env python3
"""Make mini_cs, or a bed beside it, with espeak-ng: data directories, and audio of 16 kHz."""

from __future__ import annotations

import argparse
import os
import sys

from espnet_blora.data.mini_beds import BEDS
from espnet_blora.data.mini_cs import MINI_CS, build
from espnet_blora.utils.program import Parser, program

CORPORA = {"mini_cs": MINI_CS, **BEDS}


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("make_corpus", __doc__)
    parser.add_argument("out_dir", help="the data directories go to OUT_DIR/<set>")
    parser.add_argument(
        "--clips_dir", help="the audio goes to CLIPS_DIR/<set>; without it to OUT_DIR/audio/<set>"
    )
    parser.add_argument(
        "--corpus", default="mini_cs", choices=CORPORA, help="another one's recipe is ../../NAME"
    )
    sets = "; ".join(f"of {name}: {' '.join(one.sets)}" for name, one in CORPORA.items())
    parser.add_argument("--sets", nargs="+", metavar="SET", help=f"{sets}; without it all")
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--scale", type=float, default=1.0, help="share of every set to make")
    parser.renamed("--audio_dir", "--clips_dir")
    return parser


def work(args: argparse.Namespace) -> None:
    """Make the corpus."""
    build(args.out_dir, args.sets, args.nj, args.scale, args.clips_dir, CORPORA[args.corpus])


main = program(get_parser, work)

if __name__ == "__main__":
    sys.exit(main())
