"""What is decoded: utterances of a data directory, or noise that fills Whisper's window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from espnet_blora.utils.keyed import read_keyed

from .systems import SAMPLE_RATE, WINDOW


def read_set(data: Path, most: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Waves and languages of a data directory, evenly taken from its list."""
    places, languages = read_keyed(data / "wav.scp"), read_keyed(data / "utt2lang")
    ids = sorted(places)
    ids = ids[:: max(1, len(ids) // most)][:most]
    waves = {}
    for uid in ids:
        path = Path(places[uid])
        path = path if path.is_absolute() else data.resolve().parents[2] / path
        waves[uid], rate = soundfile.read(path, dtype="float32")
        if rate != SAMPLE_RATE:
            raise ValueError(f"{path}: {rate} Hz; allowed: {SAMPLE_RATE}")
    return waves, {uid: languages[uid] for uid in ids}


def noise(count: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Noise of 30 s each, louder and softer four times a second, as speech is."""
    generator = np.random.default_rng(0)
    swell = 0.05 * (1 + np.sin(2 * np.pi * 4 * np.arange(WINDOW) / SAMPLE_RATE))
    waves = {
        f"noise{n}": (swell * generator.standard_normal(WINDOW)).astype(np.float32)
        for n in range(count)
    }
    return waves, dict.fromkeys(waves, "en")
