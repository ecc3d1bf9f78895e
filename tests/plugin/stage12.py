"""A set as stage 12 finds it."""

import math

import numpy as np
import soundfile

from espnet_blora.whisper.vocabulary import Vocabulary

LAYOUT = Vocabulary.of(51865)
SAMPLES = {"u1": 6000, "u2": 16000, "u3": 9000, "u4": 12345, "u5": 30, "u6": 0}
LANGUAGES = {"u1": "zh", "u2": "en", "u3": "de", "u4": "zh", "u5": "en", "u6": "zh"}


def write_data(folder, samples, languages):
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for uid, n in samples.items():
        t = np.arange(n) / 16000
        wave = 0.3 * np.sin(2 * math.pi * rng.uniform(100, 3000) * t) + 0.05 * rng.normal(size=n)
        soundfile.write(folder / f"{uid}.wav", wave, 16000)
        lines.append(f"{uid} {folder / uid}.wav\n")
    (folder / "wav.scp").write_text("".join(lines))
    (folder / "utt2lang").write_text("".join(f"{u} {c}\n" for u, c in languages.items()))
    return folder
