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

from espnet_blora.decoding.options import GROUPS, DecodingOptions, add_options
from espnet_blora.utils.program import Parser, program, scale

log = logging.getLogger(__name__)


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("transcribe", __doc__)
    parser.add_argument(
        "audio",
        nargs="+",
        help="files of any length, whatever soundfile or ffmpeg reads; - is standard input",
    )
    model = parser.add_argument_group("model").add_argument
    model("--asr_exp", help="experiment folder, or a checkpoint in it")
    model("--adapter", help="an adapter's .safetensors, on --whisper")
    model("--whisper", help="published size or checkpoint file; alone: without adapter")
    model("--model_file", help="checkpoint of the experiment (default: the best epoch's)")
    model("--adapter_scale", type=scale, help="factor on the adapter's update, from 0 (the base)")
    model("--device", help="torch device (default: cuda where there is one, else cpu)")
    model("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    model("--threads", type=int, help="CPU threads (default: torch's choice)")
    model("--pad_to", choices=("30s", "batch"), help="(default: the adapter's training's, or 30s)")
    for title, names in GROUPS.items():
        add_options(parser.add_argument_group(title), [name for name in names if name != "nbest"])
    group = parser.add_argument_group("files")
    files = group.add_argument
    files("--output_dir", type=Path, default=Path(), help="folder of the results")
    files("--output_format", default="all", help="json,srt,vtt,tsv,txt or all")
    files("--keep_folders", action="store_true", help="OUTPUT_DIR/folder/<name>, as the inputs lie")
    files("--verbose", action="store_true", help="print the texts, too")
    there = group.add_mutually_exclusive_group().add_argument
    there("--overwrite", action="store_true", help="replace files that are there")
    there("--skip_existing", action="store_true", help="leave out what all results are there of")
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
        deliver,
        existing,
        make_folder,
        outputs,
        parse_formats,
        unfinished,
    )

    # mistakes in the options, before torch and the model are loaded
    formats = parse_formats(args.output_format)
    stems = outputs(args.audio, args.output_dir, args.keep_folders)
    if args.skip_existing:
        waiting = unfinished(stems, formats)
        log.info("%d of %d files are done (--skip_existing)", len(stems) - len(waiting), len(stems))
        if not waiting:
            return 0
        stems = waiting
    elif not args.overwrite and (present := existing(stems.values(), formats)):
        more = f" and {len(present) - 1} more" if len(present) > 1 else ""
        raise ValueError(
            f"{present[0]}{more} there already: --overwrite replaces them, --skip_existing leaves "
            "out what is done; or choose another --output_dir"
        )
    folder, adapter = args.asr_exp, args.adapter
    if adapter is not None and not adapter.endswith(".safetensors"):
        log.warning("--adapter of an experiment is called --asr_exp now")
        folder, adapter = folder or adapter, None
    from espnet_blora.decoding.recogniser import open_model, set_threads
    from espnet_blora.decoding.transcriber import Transcriber

    # the model, and its transcripts as they come
    set_threads(args.threads)
    recogniser = open_model(
        folder,
        adapter,
        args.whisper,
        args.model_file,
        args.pad_to,
        args.device,
        dtype=args.dtype,
        adapter_scale=args.adapter_scale,
        merge=not options.samples,
    )
    progress = Progress(len(stems), sys.stderr)
    transcripts = Transcriber(recogniser, options, progress.audio).transcribe(list(stems))
    make_folder(args.output_dir)
    try:
        texts = sys.stdout if args.verbose else None
        return deliver(transcripts, stems, formats, progress, texts)
    except KeyboardInterrupt:
        sys.stderr.write("\ntranscribe: interrupted; the files named above are done\n")
        return 130


main = program(get_parser, transcribe)

if __name__ == "__main__":
    sys.exit(main())
