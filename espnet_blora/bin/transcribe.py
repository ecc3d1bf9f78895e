"""Transcribe audio files with a trained experiment, an adapter, or a plain Whisper.

Results go to OUTPUT_DIR/<name>.<format>; one line per file, as soon as it is done, goes to standard
error, and with --verbose its text to standard output. A file that cannot be read or decoded is
named, and the other files are transcribed all the same: then the status is 1. A mistake in the
options is one line and status 2.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_blora.bin._common import set_threads
from espnet_blora.decoding.options import GROUPS, DecodingOptions, add_options
from espnet_blora.utils.mistakes import parse_scale
from espnet_blora.utils.program import Parser, program

if TYPE_CHECKING:
    from espnet_blora.decoding.recogniser import Recogniser

log = logging.getLogger(__name__)


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("transcribe", __doc__)
    parser.add_argument("audio", nargs="+", help="files: whatever soundfile reads, of any length")
    model = parser.add_argument_group("model").add_argument
    model("--asr_exp", help="experiment folder, or a checkpoint in it")
    model("--adapter", help="an adapter's .safetensors, on --whisper")
    model("--whisper", help="published size or checkpoint file; alone: without adapter")
    model("--model_file", help="checkpoint of the experiment (default: the best epoch's)")
    model(
        "--adapter_scale", help="multiply the adapter's update: 0 (the base) or more (default: 1)"
    )
    model("--device", help="torch device (default: cuda where there is one, else cpu)")
    model("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    model("--threads", type=int, help="CPU threads (default: torch's choice)")
    model("--pad_to", choices=("30s", "batch"), help="of a model without experiment (default: 30s)")
    for title, names in GROUPS.items():
        add_options(parser.add_argument_group(title), [name for name in names if name != "nbest"])
    files = parser.add_argument_group("files").add_argument
    files("--output_dir", type=Path, default=Path(), help="folder of the results")
    files("--output_format", default="all", help="json,srt,vtt,tsv,txt or all")
    files("--keep_folders", action="store_true", help="OUTPUT_DIR/folder/<name>, as the inputs lie")
    files("--overwrite", action="store_true", help="replace files that are there")
    files("--verbose", action="store_true", help="print the texts, too")
    return parser


def transcribe(args: argparse.Namespace) -> int:
    """Open the model, transcribe, write; return the status.

    Raises:
        FileNotFoundError: No such experiment, adapter, Whisper or language file.
        ValueError: Options that contradict each other or the model.
    """
    options = DecodingOptions.from_namespace(args)
    from espnet_blora.decoding.output import (
        Progress,
        existing,
        make_folder,
        one_line,
        outputs,
        parse_formats,
        render,
        write,
    )

    # mistakes in the options, before torch and the model are loaded
    formats = parse_formats(args.output_format)
    stems = outputs(args.audio, args.output_dir, args.keep_folders)
    if not args.overwrite and (present := existing(stems.values(), formats)):
        more = f" and {len(present) - 1} more" if len(present) > 1 else ""
        raise ValueError(
            f"{present[0]}{more} there already: --overwrite replaces them, or choose another "
            "--output_dir"
        )
    from espnet_blora.decoding.transcriber import Transcriber

    progress = Progress(len(stems), sys.stderr)
    transcriber = Transcriber(open_model(args, merge=not options.samples), options, progress.audio)
    make_folder(args.output_dir)
    try:
        for transcript in transcriber.transcribe(args.audio):
            if not transcript.error:
                write(transcript, stems[transcript.name], formats)
                if args.verbose:
                    sys.stdout.write(f"{one_line(transcript.name)}\n{render(transcript, 'tsv')}")
                    sys.stdout.flush()
            progress.file(transcript)
    except KeyboardInterrupt:
        sys.stderr.write("\ntranscribe: interrupted; the files named above are done\n")
        return 130
    return progress.end()


def open_model(args: argparse.Namespace, merge: bool) -> Recogniser:
    """Open what --asr_exp, --adapter and --whisper name.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: Options that contradict each other or the model.
    """
    import torch

    from espnet_blora.decoding.recogniser import open_experiment, open_whisper

    set_threads(args.threads)
    scale = args.adapter_scale
    how = {
        "device": args.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        "dtype": args.dtype,
        "adapter_scale": None if scale is None else parse_scale(scale, "--adapter_scale"),
        "merge": merge,
    }
    folder, adapter, file = args.asr_exp, args.adapter, args.model_file
    if adapter is not None and not adapter.endswith(".safetensors"):
        log.warning("--adapter of an experiment is called --asr_exp now")
        folder, adapter = folder or adapter, None
    if folder is None:
        if args.whisper is None:
            raise ValueError(
                "which model? --asr_exp EXPERIMENT, --adapter FILE.safetensors --whisper SIZE, or "
                "--whisper SIZE"
            )
        return open_whisper(args.whisper, adapter, pad_to=args.pad_to or "30s", **how)
    for name in ("pad_to", "adapter"):
        if getattr(args, name) not in (None, folder):
            raise ValueError(f"--{name}: {folder} has its own, of its training; leave it out")
    if file is None and Path(folder).is_file() and folder.endswith(".pth"):
        folder, file = str(Path(folder).parent), Path(folder).name
    return open_experiment(folder, file, args.whisper, **how)


main = program(get_parser, transcribe)

if __name__ == "__main__":
    sys.exit(main())
