"""Check data directories: ids, texts, languages and audio belong together and can be used.

Exit status 1: something is wrong with a directory.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from whisper.tokenizer import LANGUAGES

from espnet_blora.data import kaldi
from espnet_blora.utils.program import Parser, program

log = logging.getLogger(__name__)


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("validate_data", __doc__)
    parser.add_argument("directories", nargs="+", help="Kaldi data directories")
    parser.add_argument("--no_audio", action="store_true", help="do not open the audio files")
    parser.add_argument("--min_seconds", type=float, default=0.1, help="refuse shorter utterances")
    parser.add_argument("--max_seconds", type=float, help="refuse longer utterances")
    parser.add_argument("--mono_16k", action="store_true", help="refuse what is not 16 kHz mono")
    parser.add_argument(
        "--new_languages",
        default="",
        help="codes that utt2lang may hold beside Whisper's, with blanks or commas between them",
    )
    return parser


def work(args: argparse.Namespace) -> int:
    """Check each directory; return 1 after saying what is wrong with any of them.

    Raises:
        FileNotFoundError: A directory is not there.
    """
    for directory in args.directories:
        if not Path(directory).is_dir():
            raise FileNotFoundError(f"{directory}: no such data directory; run stage 1 first")
    codes = {*LANGUAGES, *args.new_languages.replace(",", " ").split()}
    status = 0
    for directory in args.directories:
        try:
            summary = kaldi.validate(
                directory,
                codes,
                check_audio=not args.no_audio,
                min_seconds=args.min_seconds,
                max_seconds=args.max_seconds,
                mono_16k=args.mono_16k,
            )
        except (FileNotFoundError, ValueError) as error:
            log.error("%s", error)
            status = 1
            continue
        languages = ", ".join(f"{n} {code}" for code, n in sorted(summary.languages.items()))
        log.info(
            f"{directory}: {summary.utterances} utterances ({languages}), "
            f"{summary.speakers} speakers, {summary.seconds / 3600:.2f} h"
        )
    return status


main = program(get_parser, work)

if __name__ == "__main__":
    sys.exit(main())
