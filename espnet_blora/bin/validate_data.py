"""Check data directories: ids, texts, languages and audio belong together and can be used."""

import argparse
import logging
import sys

from whisper.tokenizer import LANGUAGES

from espnet_blora.data import kaldi


def get_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directories", nargs="+", help="Kaldi data directories")
    parser.add_argument("--no_audio", action="store_true", help="do not open the audio files")
    parser.add_argument("--min_seconds", type=float, default=0.1, help="[0.1]")
    parser.add_argument("--max_seconds", type=float, help="refuse longer utterances [no limit]")
    parser.add_argument("--mono_16k", action="store_true", help="refuse what is not 16 kHz mono")
    parser.add_argument(
        "--new_languages", default="", help="codes that utt2lang may hold beside Whisper's: rw,kab"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Check each directory; exit with status 1 after saying what is wrong with any of them."""
    args = get_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    allowed = {*LANGUAGES, *args.new_languages.replace(",", " ").split()}
    failed = 0
    for directory in args.directories:
        try:
            found = kaldi.validate(
                directory,
                allowed,
                check_audio=not args.no_audio,
                min_seconds=args.min_seconds,
                max_seconds=args.max_seconds,
                mono_16k=args.mono_16k,
            )
        except (FileNotFoundError, ValueError) as error:
            logging.error(str(error))
            failed += 1
            continue
        languages = ", ".join(f"{count} {code}" for code, count in sorted(found.languages.items()))
        logging.info(
            f"{directory}: {found.utterances} utterances ({languages}), {found.speakers} speakers, "
            f"{found.seconds / 3600:.2f} h"
        )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
