"""Collect what old audio looks like inside a Whisper: the file that repair and lora_keep need.

C = E[x x^T] of the input of every Linear that an adapter may go on, over positions of speech, while
the base hears audio without text and reads its own transcripts. Give it a few minutes of what the
model is to keep, of every language and kind, but not the sets that are reported. SOURCES are Kaldi
data directories (wav.scp, and segments and utt2lang if they are there), audio files of any length,
and folders of them. With --adapted the trained model is heard instead: `repair` takes such a file
of the new domain's training audio.

With no old audio at hand, --speak "en zh" has espeak-ng speak plain sentences in these languages (3
minutes each, in OUTPUT.spoken), and the base hears those. Recordings are better, if there are any.

Beside OUTPUT stands OUTPUT.sums, from which an interrupted run goes on, and to which more SOURCES
can be added later. --merge adds up the sums of runs over different audio.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_blora.bin._common import ALL_LINEARS, add_model, open_recogniser
from espnet_blora.utils.program import Parser, program

if TYPE_CHECKING:  # torch is imported when the program runs
    from espnet_blora.adapters.moments import Sums

SAVE_SECONDS = 300.0  # between two saves of the sums, which are gigabytes for a large model
log = logging.getLogger(__name__)


def get_parser() -> Parser:
    """Return the options, each with its default."""
    parser = Parser("moments", __doc__)
    parser.add_argument(
        "sources", nargs="*", help="Kaldi data directories, audio files, folders of them"
    )
    add_model(parser, required=False)
    add = parser.add_argument
    add("--output", type=Path, required=True, help="file that is written")
    add("--adapted", action="store_true", help="hear with the trained model, not with its base")
    add("--target_modules", default=ALL_LINEARS, help="as in adapter_conf")
    add("--speak", metavar="CODES", help='languages to speak and hear, as "en zh"')
    add("--language", help="of audio without utt2lang (default: the training's, else detected)")
    add("--utterances", type=int, help="at most so many of each source, spread evenly")
    add("--rank", type=int, default=256, help="eigenpairs kept of inputs wider than 512")
    add("--batch_size", type=int, default=16, help="pieces of audio heard together")
    add("--chunk_length", type=float, help="seconds of a piece at most (default: as transcribe)")
    add("--merge", nargs="+", type=Path, metavar="SUMS", help="add up these files, hear nothing")
    return parser


def moments(args: argparse.Namespace) -> None:
    """Hear the sources, or add up sums; write the sums and the moments.

    Raises:
        FileNotFoundError: The experiment, a source or a file of sums is not there.
        ValueError: Audio, a checkpoint, sums or an option cannot be used, or do not fit together.
    """
    if args.speak is not None:
        args.sources.append(spoken(args.output, args.speak.split()))
    from espnet_blora.adapters.moments import read_sums

    if args.rank < 1:
        raise ValueError(f"--rank is {args.rank}; allowed: 1 or more")
    kept = args.output.with_name(args.output.name + ".sums")
    start = time.monotonic()
    if args.merge:
        if args.sources or args.asr_exp:
            raise ValueError("--merge takes files of sums alone: leave sources and --asr_exp out")
        sums = read_sums(args.merge[0])
        for path in args.merge[1:]:
            sums.merge(read_sums(path))
        about = {"merged": [str(path) for path in args.merge]}
    else:
        if not args.sources or not args.asr_exp:
            raise ValueError("give --asr_exp and at least one data directory or audio file")
        sums = hear(args, kept)
        about = {"sources": list(map(str, args.sources))}
    sums.save(kept)
    size = sums.export(args.output, about, args.rank)
    sys.stdout.write(
        f"{args.output}: {len(sums.layers)} Linears with {len(sums.sums)} inputs, "
        f"{size / 1e6:.1f} MB; {len(sums.heard)} utterances, "
        f"{sum(sums.heard.values()) / 60:.1f} min, heard by the {sums.made['through']} model; "
        f"{sums.left_out} pieces whose text is empty or does not end left out; "
        f"{time.monotonic() - start:.0f} s\n"
    )


def spoken(output: Path, languages: Sequence[str]) -> str:
    """Speak sentences in these languages, before torch starts any threads; return their folder.

    Raises:
        ValueError: espeak-ng has no such voice, or is not installed.
    """
    try:
        from espnet_blora.data.spoken import speak
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--speak needs espeak-ng ({error}); install it: pip install 'espnet_blora[demo]'"
        ) from error
    if not languages:
        raise ValueError("--speak names no language; give codes, such as 'en zh'")
    folder = output.with_name(output.name + ".spoken")
    speak(folder, languages)
    return str(folder)


def hear(args: argparse.Namespace, kept: Path) -> Sums:
    """Hear the sources, going on from the sums in `kept` if they are there.

    Raises:
        FileNotFoundError: As of `moments`.
        ValueError: As of `moments`.
    """
    from espnet_blora.adapters.files import checksum
    from espnet_blora.adapters.moments import new_sums, read_sums
    from espnet_blora.adapters.targets import find_targets
    from espnet_blora.data import unlabelled
    from espnet_blora.decoding.moments import inputs_of, listen
    from espnet_blora.decoding.options import DecodingOptions
    from espnet_blora.decoding.recogniser import base_state
    from espnet_blora.decoding.scaling import moved
    from espnet_blora.decoding.transcriber import AUTO

    # The audio, with the language of each utterance.
    recogniser = open_recogniser(args, merge=False, packed=False)
    codes = recogniser.vocabulary.languages
    found = {
        str(source): unlabelled.find(source, codes, args.utterances) for source in args.sources
    }
    clips = {source: unlabelled.Clips(places) for source, (places, _) in found.items()}
    spoken = args.language or recogniser.language or AUTO
    languages = {uid: given.get(uid, spoken) for places, given in found.values() for uid in places}

    # Which model hears it, and the base that it comes from.
    model = recogniser.as_trained()
    linears = find_targets(model, args.target_modules.split(), adapted=True)
    base = None if recogniser.adapter else base_state(args.asr_exp, args.whisper)
    made = {
        "pad_to": recogniser.pad_to,
        "through": "adapted" if args.adapted else "base",
        "chunk_length": args.chunk_length,
    }
    if args.adapted and recogniser.adapter:  # sums through another adapter do not go on
        made["adapter"] = checksum(sorted(recogniser.adapter.factors().items()))
    sums = new_sums(base or dict(model.named_parameters()), inputs_of(linears), made)
    if kept.is_file():
        before = read_sums(kept)
        if others := sorted(before.heard.keys() - languages.keys()):
            raise ValueError(
                f"{kept} holds {len(others)} utterances that are not in these sources, first "
                f"{others[0]}: name their source, too, or give another --output"
            )
        try:
            sums.merge(before)
        except ValueError as error:
            raise ValueError(f"{kept}: {error}; remove it, or give another --output") from error
        log.info("going on from %s: %d utterances", kept, len(sums.heard))

    # What is heard is saved now and then.
    saved = time.monotonic()

    def done(sums: Sums) -> None:
        nonlocal saved
        if time.monotonic() - saved >= SAVE_SECONDS:
            sums.save(kept)
            saved = time.monotonic()

    options = DecodingOptions(
        language=languages,
        beam_size=1,
        batch_size=args.batch_size,
        chunk_length=args.chunk_length,
    )
    with moved(recogniser, float(args.adapted), base):
        listen(recogniser, clips, sums, options, done)
    return sums


main = program(get_parser, moments)

if __name__ == "__main__":
    sys.exit(main())
