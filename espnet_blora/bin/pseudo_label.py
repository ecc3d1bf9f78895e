"""Write what the base hears in unlabelled old audio: the data directory that `retain:` takes.

SOURCES are Kaldi data directories (wav.scp, and utt2lang if it is there; no text) and audio files.
Give some minutes of what the model is to keep, of every language and kind, but not the sets that
are reported. Utterances in which the base hears nothing, or whose text does not end, are left out
and named. OUTPUT gets wav.scp, text, utt2lang and utt2spk.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from espnet_blora.bin._common import add_model, open_recogniser
from espnet_blora.utils.program import Parser, program

log = logging.getLogger(__name__)


def get_parser() -> Parser:
    """Return the options, each with its default."""
    parser = Parser("pseudo_label", __doc__)
    parser.add_argument("sources", nargs="+", help="Kaldi data directories, audio files")
    add_model(parser)
    add = parser.add_argument
    add("--output", type=Path, required=True, help="data directory that is written")
    add("--language", help="of audio without utt2lang (default: the training's, else detected)")
    add("--utterances", type=int, help="at most so many of each source, spread evenly")
    add("--batch_size", type=int, default=16, help="utterances heard together")
    return parser


def label(args: argparse.Namespace) -> None:
    """Transcribe with the base, and write the directory.

    Raises:
        FileNotFoundError: The experiment or a source is not there.
        ValueError: Audio cannot be used, is a part of a recording, or gives no text at all.
    """
    from espnet_blora.data import kaldi, unlabelled
    from espnet_blora.decoding.options import DecodingOptions
    from espnet_blora.decoding.recogniser import base_state
    from espnet_blora.decoding.scaling import moved
    from espnet_blora.decoding.transcriber import AUTO, Transcriber

    # The audio, each utterance a file of its own as ESPnet's trainer reads it.
    recogniser = open_recogniser(args, merge=False, packed=False)
    places: dict[str, unlabelled.Place] = {}
    spoken: dict[str, str] = {}
    for source in args.sources:
        found, codes = unlabelled.find(source, recogniser.vocabulary.languages, args.utterances)
        default = args.language or recogniser.language or AUTO
        places |= found
        spoken |= {uid: codes.get(uid, default) for uid in found}
    if parts := [uid for uid, place in places.items() if place.end is not None]:
        raise ValueError(
            f"{parts[0]} is a part of a recording (segments); stage 3 makes files of it: name the "
            "set in dump/raw instead"
        )

    # The base's own texts.
    options = DecodingOptions(
        language=spoken,
        beam_size=1,
        batch_size=args.batch_size,
        drop_quiet=False,
        temperature_increment_on_fallback=0.0,
    )
    texts: dict[str, str] = {}
    languages: dict[str, str] = {}
    wav: dict[str, str] = {}
    base = None if recogniser.adapter else base_state(args.asr_exp, args.whisper)
    with moved(recogniser, 0.0, base):
        for transcript in Transcriber(recogniser, options).transcribe(unlabelled.Clips(places)):
            if transcript.error:
                raise ValueError(transcript.error)
            uid = "-".join(Path(transcript.name).parts[-2:])  # SET-ID: ids without slashes
            if uid in texts:
                raise ValueError(f"two utterances are called {uid}; rename a source")
            if not transcript.segments or not all(s.complete for s in transcript.segments):
                log.warning("%s: no text that ends; left out", transcript.name)
                continue
            texts[uid] = " ".join(transcript.text.split())
            languages[uid] = transcript.language
            wav[uid] = places[transcript.name].path
    if not texts:
        raise ValueError(f"none of {len(places)} utterances gave a text that ends; is this speech?")
    kaldi.write_data_dir(args.output, wav, texts, {uid: uid for uid in texts}, languages)
    sys.stdout.write(f"{args.output}: {len(texts)} of {len(places)} utterances\n")


main = program(get_parser, label)

if __name__ == "__main__":
    sys.exit(main())
