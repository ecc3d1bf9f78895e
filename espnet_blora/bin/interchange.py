"""Exchange data with the BLoRA authors' programs: their six-field TAB format."""

import argparse
import sys
from pathlib import Path

from whisper.tokenizer import LANGUAGES

from espnet_blora.data import interchange
from espnet_blora.data.records import Ledger


def get_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="from a data directory to a file")
    export.add_argument("directory", help="Kaldi data directory")
    export.add_argument("file", help="to write, such as seame_train_clip.stm")
    import_ = commands.add_parser("import", help="from a file to a data directory")
    import_.add_argument("file", help="lines of uid, path, start, end, duration in ms, text")
    import_.add_argument("directory", help="Kaldi data directory to write")
    import_.add_argument(
        "--language", required=True, choices=sorted(LANGUAGES), metavar="CODE", help="such as zh"
    )
    for command in (export, import_):
        command.add_argument(
            "--training",
            action="store_true",
            help="leave out what their training reader would skip (under 500 ms, over 20 s)",
        )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Convert, and list what was left out beside the result; status 2 and one line on a mistake."""
    args = get_parser().parse_args(argv)
    ledger = Ledger()
    try:
        if args.command == "export":
            result, listing = args.file, Path(f"{args.file}.left_out.tsv")
            count = interchange.export_directory(args.directory, args.file, ledger, args.training)
        else:
            result, listing = args.directory, Path(args.directory, "left_out.tsv")
            count = interchange.import_file(
                args.file, args.directory, args.language, ledger, args.training
            )
        ledger.write(listing)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"interchange: {error}\n")
        sys.exit(2)
    lines = [f"{result}: {count:,} utterances"]
    lines += [f"  left out, {reason}: {n:,}" for reason, n in ledger.counts().items()]
    lines += [f"  kept, {what}: {n:,}" for what, n in ledger.note_counts().items()]
    if ledger.skips or ledger.notes:
        lines.append(f"each of these is named in {listing}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
