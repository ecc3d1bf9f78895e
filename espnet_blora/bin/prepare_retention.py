"""Prepare those retention sets of other corpora that this machine has, and name the others.

The name of a set tells its corpus: librispeech_test_clean, aishell_test, commonvoice_es_test, ...;
the environment variables LIBRISPEECH, AISHELL, COMMONVOICE, ... tell where a corpus is.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from espnet_blora.data.corpora.common import SetAbsentError
from espnet_blora.data.prepare import MAX_LOST, prepare
from espnet_blora.data.registry import corpus_folder, parse_set_name
from espnet_blora.utils.program import Parser, program

log = logging.getLogger(__name__)


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("prepare_retention", __doc__)
    parser.add_argument("sets", nargs="+", help="names of data directories")
    parser.add_argument("--data_dir", default="data", help="where the Kaldi directories go")
    parser.add_argument("--clips_dir", default="downloads", help="where the audio goes")
    parser.add_argument("--nj", type=int, default=1, help="processes")
    parser.add_argument(
        "--max_lost",
        type=float,
        help="share of a set whose audio may be missing or broken "
        f"(default: 0 for test sets, else {MAX_LOST})",
    )
    parser.add_argument("--check", action="store_true", help="only see whether such sets exist")
    return parser


def work(args: argparse.Namespace) -> None:
    """Prepare the sets whose corpora are there, and log each of the others."""
    sets = [parse_set_name(name) for name in args.sets]
    if args.check:
        return
    for retention in sets:
        folder = corpus_folder(retention.corpus)
        if isinstance(folder, str):
            prepared = (Path(args.data_dir) / retention.name / "wav.scp").is_file()
            outcome = "kept as it was prepared before" if prepared else "left out"
            unset = not os.environ.get(retention.corpus.variable)  # which is no mistake
            level = logging.INFO if unset else logging.WARNING
            log.log(level, "%s: %s: %s", outcome, retention.name, folder)
            continue
        try:
            summary = prepare(
                retention.corpus,
                folder,
                [retention.set],
                args.data_dir,
                Path(args.clips_dir) / retention.corpus.name,
                retention.options,
                args.nj,
                prefix=retention.name.removesuffix(retention.set),
                max_lost=args.max_lost,
            )
        except SetAbsentError as error:
            log.warning("left out: %s: %s", retention.name, error)
            continue
        sys.stdout.write("\n".join(summary.lines()) + "\n")


main = program(get_parser, work)

if __name__ == "__main__":
    sys.exit(main())
