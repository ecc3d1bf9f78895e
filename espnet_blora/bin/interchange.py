"""Bring data in and out: datasets of Hugging Face, lhotse, the BLoRA authors' six-field format."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from whisper.tokenizer import LANGUAGES

from espnet_blora.data import hf_datasets, interchange, lhotse
from espnet_blora.data.records import Ledger
from espnet_blora.utils.program import Parser, program


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("interchange", __doc__)
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
    unpack = commands.add_parser("unpack", help="from parquet or save_to_disk to audio and a table")
    unpack.add_argument("file", type=Path, help="a .parquet file, or a dataset's folder")
    unpack.add_argument(
        "directory", type=Path, help="folder to be made, for corpus custom; one in it per split"
    )
    unpack.add_argument("--text", default="", help="column of the texts (default: a usual name)")
    from_lhotse = commands.add_parser("from_lhotse", help="from lhotse's manifests")
    from_lhotse.add_argument("file", type=Path, help="cuts, or a folder of manifests")
    from_lhotse.add_argument("directory", type=Path, help="Kaldi data directory to write")
    from_lhotse.add_argument(
        "--language", default="", help="Whisper's code of what names no language"
    )
    to_lhotse = commands.add_parser("to_lhotse", help="to lhotse's recordings and supervisions")
    to_lhotse.add_argument("directory", type=Path, help="Kaldi data directory")
    to_lhotse.add_argument("file", type=Path, help="folder to be made")
    for command in (export, import_):
        command.add_argument(
            "--training",
            action="store_true",
            help="leave out what their training reader would skip (under 500 ms, over 20 s)",
        )
    return parser


def work(args: argparse.Namespace) -> None:
    """Convert, and list what was left out beside the result."""
    ledger = Ledger()
    if args.command == "unpack":
        counts = hf_datasets.unpack(args.file, args.directory, ledger, args.text)
        result, listing = args.directory, args.directory / "left_out.tsv"
        count = sum(counts.values())
    elif args.command == "from_lhotse":
        result, listing = args.directory, args.directory / "left_out.tsv"
        names = {name: code for code, name in LANGUAGES.items()}
        count = lhotse.import_manifests(args.file, args.directory, ledger, args.language, names)
    elif args.command == "to_lhotse":
        result, listing = args.file, args.file / "left_out.tsv"
        count = lhotse.export_manifests(args.directory, args.file)
    elif args.command == "export":
        result, listing = args.file, Path(f"{args.file}.left_out.tsv")
        count = interchange.export_directory(args.directory, args.file, ledger, args.training)
    else:
        result, listing = args.directory, Path(args.directory, "left_out.tsv")
        count = interchange.import_file(
            args.file, args.directory, args.language, ledger, args.training
        )
    ledger.write(listing)
    lines = [f"{result}: {count:,} utterances"]
    lines += [f"  left out, {reason}: {n:,}" for reason, n in ledger.counts().items()]
    lines += [f"  kept, {what}: {n:,}" for what, n in ledger.note_counts().items()]
    if ledger.skips or ledger.notes:
        lines.append(f"each of these is named in {listing}")
    sys.stdout.write("\n".join(lines) + "\n")


main = program(get_parser, work)

if __name__ == "__main__":
    sys.exit(main())
