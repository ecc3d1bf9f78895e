"""Prepare retention sets of other corpora, those that are at hand, and say which are not.

The names say what is wanted: librispeech_test_clean, aishell_test, commonvoice_es_test, ...; the
variables LIBRISPEECH, AISHELL, COMMONVOICE, ... say where it is.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_blora.data import registry
from espnet_blora.data.corpora.common import SetAbsentError
from espnet_blora.data.prepare import prepare


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python3 -m espnet_blora.bin.prepare_retention",
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("sets", nargs="+", help="names of data directories")
    parser.add_argument("--data_dir", default="data", help="where the Kaldi directories go")
    parser.add_argument("--clips_dir", default="downloads", help="where the audio goes")
    parser.add_argument("--nj", type=int, default=1, help="processes")
    parser.add_argument("--check", action="store_true", help="only see whether such sets exist")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare what is there; a user's mistake is one line and status 2."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    args = get_parser().parse_args(argv)
    try:
        wanted = [registry.parse_set_name(name) for name in args.sets]
        for one in [] if args.check else wanted:
            folder = registry.corpus_folder(one.corpus)
            if isinstance(folder, str):
                kept = (Path(args.data_dir) / one.name / "wav.scp").is_file()
                outcome = "kept as it was prepared before" if kept else "left out"
                logging.warning("%s: %s: %s", outcome, one.name, folder)
                continue
            prefix = one.name.removesuffix(one.set)
            audio = Path(args.clips_dir) / one.corpus.name
            try:
                summary = prepare(
                    one.corpus,
                    folder,
                    [one.set],
                    args.data_dir,
                    audio,
                    one.options,
                    args.nj,
                    prefix,
                )
            except SetAbsentError as error:
                logging.warning("left out: %s: %s", one.name, error)
                continue
            sys.stdout.write("\n".join(summary.lines()) + "\n")
    except (ValueError, OSError, RuntimeError) as error:
        logging.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
