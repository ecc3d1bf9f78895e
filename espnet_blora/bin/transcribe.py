"""Transcribe audio files with a trained experiment, an adapter, or a plain Whisper.

Results go to OUTPUT_DIR/<name>.<format>; a line for each file, as soon as it is done, to standard
error, and with --verbose its text to standard output. What cannot be read or decoded is named, and
the other files are transcribed all the same: then the status is 1. A mistake in the options is one
line and status 2.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_blora.utils.mistakes import parse_scale, users_mistake, wants_traceback

if TYPE_CHECKING:
    from espnet_blora.decoding.recogniser import Recogniser
    from espnet_blora.decoding.transcriber import Options

LANGUAGE = (
    "code for all files (zh), a file of '<name without suffix> <code>' lines (utt2lang), or auto: "
    "what the model hears in the first 30 s of each [the training's, else auto]"
)


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet_blora.bin.transcribe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("audio", nargs="+", help="files: whatever soundfile reads, of any length")
    model = parser.add_argument_group("model")
    model.add_argument(
        "--adapter",
        help="experiment folder (or a checkpoint in it), or an adapter's .safetensors, which needs "
        "--whisper too",
    )
    model.add_argument(
        "--whisper", help="published size or checkpoint file; alone: without adapter"
    )
    model.add_argument("--model_file", help="checkpoint of the experiment [the best epoch's]")
    model.add_argument("--adapter_scale", help="turn the adapter down, 0 to 1 [1]")
    model.add_argument("--device", help="torch device [cuda where there is one, else cpu]")
    model.add_argument(
        "--dtype", default="float32", choices=("float32", "float16", "bfloat16"), help="[float32]"
    )
    model.add_argument("--threads", type=int, help="CPU threads [torch's choice]")
    model.add_argument("--batch_size", type=int, default=16, help="pieces at once [16]")
    model.add_argument(
        "--pad_to", choices=("30s", "batch"), help="of a model without experiment [30s]"
    )
    model.add_argument(
        "--chunk_length", type=float, default=30.0,
        help="seconds of a piece at most; less for a model trained on short utterances [30]",
    )  # fmt: skip
    text = parser.add_argument_group("text")
    text.add_argument("--language", help=LANGUAGE)
    text.add_argument(
        "--task", default="transcribe", choices=("transcribe", "translate"), help="[transcribe]"
    )
    text.add_argument("--initial_prompt", help="text put before each piece: names, spelling, style")
    text.add_argument(
        "--rule",
        default="whisper",
        choices=("whisper", "espnet"),
        help="search as openai-whisper does, or as ESPnet does [whisper]",
    )
    text.add_argument("--beam_size", type=int, default=5, help="1 is greedy [5]")
    text.add_argument("--patience", type=float, default=1.0, help="rule whisper [1.0]")
    text.add_argument(
        "--length_penalty", type=float, help="rule whisper: alpha, 0 to 1 [score a token]"
    )
    text.add_argument(
        "--max_tokens", type=int, help="of a piece [224; rule espnet: one each 20 ms]"
    )
    text.add_argument(
        "--suppress_tokens",
        help="ids with commas between, -1 for symbols that are not spoken, '' for none [-1; rule "
        "espnet: none]",
    )
    text.add_argument(
        "--no_repeat_ngram_size", type=int, default=0, help="n tokens never come twice [0: may]"
    )
    more = parser.add_argument_group("times and confidence")
    more.add_argument(
        "--word_timestamps", action="store_true", help="when each word is said; shorter subtitles"
    )
    more.add_argument(
        "--confidence", action="store_true", help="probability of each word, in the JSON"
    )
    more.add_argument("--temperature", type=float, default=1.0, help="of confidences [1.0]")
    more.add_argument(
        "--samples", type=int, default=0, help="draws of a Bayesian adapter [0: its mean]"
    )
    more.add_argument("--seed", type=int, default=0, help="of the draws [0]")
    files = parser.add_argument_group("files")
    files.add_argument("--output_dir", type=Path, default=Path(), help="[.]")
    files.add_argument("--output_format", default="all", help="json,srt,vtt,tsv,txt or all [all]")
    files.add_argument(
        "--keep_folders", action="store_true", help="OUTPUT_DIR/folder/<name>, as the inputs lie"
    )
    files.add_argument("--overwrite", action="store_true", help="replace files that are there")
    files.add_argument("--verbose", action="store_true", help="print what was said, too")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Transcribe; 0: all files done, 1: some failed (each named), 2: a mistake in the options."""
    parser = get_parser()
    args = parser.parse_intermixed_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        return transcribe(args)
    except (ValueError, OSError) as error:
        message = users_mistake(error)
        if message is None or wants_traceback():
            raise
        print(f"transcribe: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ntranscribe: interrupted; the files named above are done", file=sys.stderr)
        return 130


def transcribe(args: argparse.Namespace) -> int:
    """Open the model, transcribe, write; return the status.

    Raises:
        FileNotFoundError: no such experiment, adapter, Whisper or language file.
        ValueError: options that contradict each other or the model.
    """
    from espnet_blora.decoding.subtitles import existing, file_of, outputs, parse_formats, render

    formats = parse_formats(args.output_format)
    stems = outputs(args.audio, args.output_dir, args.keep_folders)
    if not args.overwrite and (there := existing(stems.values(), formats)):
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise ValueError(
            f"{there[0]}{more} there already: --overwrite replaces them, or choose another "
            "--output_dir"
        )
    from espnet_blora.data.audio_files import AudioFile
    from espnet_blora.decoding.progress import Progress
    from espnet_blora.decoding.transcriber import Transcriber
    from espnet_blora.text.tokens import mixed_tokens
    from espnet_blora.utils import atomic

    recogniser = open_model(args)
    make_folder(args.output_dir)
    progress = Progress(len(stems), sys.stderr)
    transcriber = Transcriber(
        recogniser, options_of(args, recogniser), AudioFile.open, mixed_tokens, progress.audio
    )
    for found in transcriber.transcribe(args.audio):
        if not found.error:
            make_folder(stems[found.name].parent)
            for form in formats:
                atomic.write(file_of(stems[found.name], form), render(found, form))
            if args.verbose:
                sys.stdout.write(f"{found.name}\n{render(found, 'tsv')}")
                sys.stdout.flush()
        progress.file(found)
    return progress.end()


def make_folder(folder: Path) -> None:
    """Make a folder for results.

    Raises:
        ValueError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--output_dir: {folder} cannot be made ({error.strerror}); choose another"
        ) from error


def open_model(args: argparse.Namespace) -> Recogniser:
    """Open what --adapter and --whisper name."""
    import torch

    from espnet_blora.decoding.recogniser import open_experiment, open_whisper

    if args.threads is not None:
        if args.threads < 1:
            raise ValueError(f"--threads {args.threads}: 1 or more is needed")
        torch.set_num_threads(args.threads)
    how = {
        "device": args.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        "dtype": args.dtype,
        "adapter_scale": None
        if args.adapter_scale is None
        else parse_scale(args.adapter_scale, "--adapter_scale"),
        "merge": not args.samples,
    }
    if args.adapter is None or args.adapter.endswith(".safetensors"):
        if args.whisper is None:
            raise ValueError(
                "which model? --adapter EXPERIMENT, --adapter FILE.safetensors --whisper SIZE, or "
                "--whisper SIZE"
            )
        return open_whisper(args.whisper, args.adapter, pad_to=args.pad_to or "30s", **how)
    if args.pad_to is not None:
        raise ValueError(f"--pad_to: {args.adapter} is padded as it was trained; leave it out")
    folder, file = args.adapter, args.model_file
    if file is None and Path(folder).is_file() and folder.endswith(".pth"):
        folder, file = str(Path(folder).parent), Path(folder).name
    return open_experiment(folder, file, args.whisper, **how)


def options_of(args: argparse.Namespace, recogniser: Recogniser) -> Options:
    """The transcriber's options; what is not given is the rule's own program's."""
    from espnet_blora.data.kaldi import read_utt2lang
    from espnet_blora.decoding.beam import SearchOptions
    from espnet_blora.decoding.transcriber import AUTO, Options

    theirs = args.rule == "whisper"
    language = args.language
    if language is not None and Path(language).is_file():
        language = read_utt2lang(language, recogniser.layout.languages)
    elif language is not None and language != AUTO:
        try:
            language = recogniser.layout.language_code(language)
        except ValueError as error:
            raise ValueError(f"--language: there is no file {language!r}, and {error}") from error
    suppress = args.suppress_tokens
    return Options(
        language=language,
        task=args.task,
        initial_prompt=args.initial_prompt,
        search=SearchOptions(
            beam_size=args.beam_size,
            rule=args.rule,
            maxlenratio=0.0 if theirs or args.max_tokens is None else -args.max_tokens,
            max_tokens=args.max_tokens,
            length_penalty=args.length_penalty,
            patience=args.patience,
        ),
        suppress_tokens=("-1" if theirs else "") if suppress is None else suppress,
        suppress_blank=theirs,
        no_repeat_ngram_size=args.no_repeat_ngram_size,
        word_timestamps=args.word_timestamps,
        confidence=args.confidence,
        samples=args.samples,
        temperature=args.temperature,
        seed=args.seed,
        batch_size=args.batch_size,
        chunk_length=args.chunk_length,
    )


if __name__ == "__main__":
    sys.exit(main())
