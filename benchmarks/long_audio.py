"""Long audio: utterances joined with pauses, transcribed as one file and one by one.

Utterances of a data directory are cut free of the silence at their ends, joined with pauses of
several lengths, without and with noise, and transcribed with the default options. Each error rate
(over words and Han characters) is compared with that of the same utterances one by one. The exit
status is 1 where a joined file is worse by more than is allowed.

    python3 benchmarks/long_audio.py                                  # mini_cs's base, on ret_en
    cd egs2/mini_cs/asr1 && python3 ../../../benchmarks/long_audio.py \\
        --asr_exp exp/asr_lora --data dump/raw/test_cs                # an experiment of a recipe

A Whisper without experiment does not know what it was trained on: the lengths of all utterances of
the data directory stand for it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rapidfuzz.distance import Levenshtein

from espnet_blora.data.audio import FRAME, SAMPLE_RATE, duration, loudness, read
from espnet_blora.data.mini_cs import build
from espnet_blora.decoding import DecodingOptions, Transcriber, open_experiment, open_whisper
from espnet_blora.decoding.recogniser import Recogniser
from espnet_blora.decoding.silence import quiet_positions
from espnet_blora.decoding.training_config import TrainedLengths
from espnet_blora.text.tokens import mixed_tokens
from espnet_blora.utils.keyed import read_keyed
from espnet_blora.utils.program import Parser, run_program

BASE = Path(__file__).parents[1] / "egs2/mini_cs/asr1/base/tiny_mini_cs.safetensors"

CONDITIONS = ((0.15, 0.0), (0.5, 0.0), (1.5, 0.0), (4.0, 0.0), (0.5, 0.005))
"""Seconds of a pause, and standard deviation of white noise on everything."""

ALLOWED, ALLOWED_CLOSE, CLOSE = 3.0, 15.0, 0.2
"""Points that a joined file may be worse by; and where pauses are shorter than `CLOSE` seconds."""


def get_parser() -> Parser:
    """Return the options."""
    parser = Parser("long_audio", __doc__)
    parser.add_argument("--data", type=Path, help="folder with wav.scp and text")
    parser.add_argument("--asr_exp", help="experiment folder")
    parser.add_argument("--whisper", help="published size or checkpoint file", default=BASE)
    parser.add_argument("--pad_to", default="batch", help="of --whisper alone")
    parser.add_argument("--language", help="of all utterances; default: that of the training")
    parser.add_argument("--utterances", type=int, default=80, help="the first so many")
    parser.add_argument("--beam_size", type=int, default=5)
    parser.add_argument(
        "--condition_on_previous_text",
        action="store_true",
        help="prompt a piece with the one before",
    )
    return parser


def trimmed(wave: np.ndarray) -> np.ndarray:
    """Return a wave without the silence at its ends."""
    (speech,) = np.nonzero(~quiet_positions(loudness(wave)))
    return wave[speech[0] * FRAME : (speech[-1] + 1) * FRAME]


def join(waves: Sequence[np.ndarray], pause: float) -> np.ndarray:
    """Return the trimmed waves as one, with a pause (in seconds) before, between and behind."""
    silence = np.zeros(int(pause * SAMPLE_RATE), np.float32)
    return np.concatenate([silence, *(part for w in waves for part in (trimmed(w), silence))])


def noisy(wave: np.ndarray, level: float) -> np.ndarray:
    """Add white noise of a standard deviation."""
    noise = np.random.default_rng(0).standard_normal(len(wave))
    return (wave + level * noise).astype(np.float32)


def error_rate(references: Sequence[str], texts: Sequence[str]) -> float:
    """Return errors per 100 words and Han characters."""
    pairs = [(mixed_tokens(a), mixed_tokens(b)) for a, b in zip(references, texts, strict=True)]
    errors = sum(Levenshtein.distance(reference, text) for reference, text in pairs)
    return 100 * errors / sum(len(reference) for reference, _ in pairs)


def compare(
    recogniser: Recogniser, data: Path, count: int, options: DecodingOptions
) -> list[tuple[float, float, float, float]]:
    """Transcribe a set's first utterances one by one and joined.

    Returns:
        For each of `CONDITIONS`: the pause, the noise, and the error rates one by one and joined.
    """
    texts, places = (read_keyed(data / name) for name in ("text", "wav.scp"))
    ids = list(texts)[:count]
    waves = {uid: read(places[uid]) for uid in ids}
    references = [texts[uid] for uid in ids]
    transcriber = Transcriber(recogniser, options)
    alone: dict[float, float] = {}
    rows = []
    for pause, noise in CONDITIONS:
        if noise not in alone:
            one_by_one = {uid: noisy(wave, noise) for uid, wave in waves.items()}
            found = {t.name: t.text for t in transcriber.transcribe(one_by_one)}
            alone[noise] = error_rate(references, [found[uid] for uid in ids])
        wave = noisy(join(list(waves.values()), pause), noise)
        (whole,) = transcriber.transcribe({"joined": wave})
        joined = error_rate([" ".join(references)], [whole.text])
        rows.append((pause, noise, alone[noise], joined))
    return rows


def too_bad(pause: float, alone: float, joined: float) -> bool:
    """Tell whether a joined file is worse by more than is allowed."""
    return joined - alone > (ALLOWED_CLOSE if pause < CLOSE else ALLOWED)


def as_if_trained_on(data: Path) -> TrainedLengths:
    """Return the lengths of a set's utterances, as an experiment keeps those of its training."""
    seconds = [duration(place) for place in read_keyed(data / "wav.scp").values()]
    return TrainedLengths(*np.quantile(seconds, [0.5, 0.95, 1.0]).tolist())


def measure(args: argparse.Namespace) -> int:
    """Print the table; return 1 where something is worse than allowed."""
    with tempfile.TemporaryDirectory() as folder:
        data, language = args.data, args.language
        if data is None:
            build(folder, ["ret_en"], scale=0.4)
            data, language = Path(folder) / "ret_en", "en"
        if args.asr_exp:
            recogniser = open_experiment(args.asr_exp)
        else:
            recogniser = open_whisper(args.whisper, pad_to=args.pad_to)
            recogniser = replace(recogniser, lengths=as_if_trained_on(data))
        options = DecodingOptions(
            language=language,
            beam_size=args.beam_size,
            condition_on_previous_text=args.condition_on_previous_text,
        )
        rows = compare(recogniser, data, args.utterances, options)
    print("| pause, s | noise | one by one, % | joined, % |\n|---|---|---|---|")
    for pause, noise, alone, joined in rows:
        mark = " (too much)" if too_bad(pause, alone, joined) else ""
        print(f"| {pause:g} | {noise:g} | {alone:.1f} | {joined:.1f}{mark} |")
    return int(any(too_bad(pause, alone, joined) for pause, _, alone, joined in rows))


if __name__ == "__main__":
    sys.exit(run_program(get_parser(), measure))
