"""Audio files: how long they are, and turning any of them into what Whisper hears.

Whisper hears 16 kHz mono; whatever soundfile reads (WAV, FLAC, SPHERE, ...) can be converted.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16000


def is_archive_offset(place: str) -> bool:
    """Whether an entry of wav.scp points into a Kaldi archive (``file.ark:123``)."""
    return re.search(r":\d+$", place) is not None


def _open(path: str | Path) -> soundfile.SoundFile:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such audio file")
    try:
        return soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as audio ({error})") from error


def look(path: str | Path) -> tuple[float, int, int]:
    """Return an audio file's length in seconds, its sampling rate in Hz and its channels.

    Raises: FileNotFoundError; ValueError if it cannot be read.
    """
    with _open(path) as file:
        return file.frames / file.samplerate, file.samplerate, file.channels


def duration(path: str | Path) -> float:
    """Length of an audio file in seconds; raises as ``look`` does."""
    return look(path)[0]


def read(path: str | Path) -> np.ndarray:
    """Read a file as float32 of shape (samples,) at 16 kHz; channels are averaged.

    Raises: FileNotFoundError; ValueError if it cannot be read or holds no samples.
    """
    with _open(path) as file:
        try:
            wave, rate = file.read(dtype="float32", always_2d=True), file.samplerate
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{path}: damaged audio ({error})") from error
    if not len(wave):
        raise ValueError(f"{path}: holds no samples")
    wave = wave.mean(axis=1)
    if rate != SAMPLE_RATE:
        wave = soxr.resample(wave, rate, SAMPLE_RATE, quality="HQ")
    return wave


def write(path: str | Path, wave: np.ndarray) -> None:
    """Write samples at 16 kHz as 16-bit WAV; the file appears whole or not at all.

    ``wave``: int16, or float in [-1, 1] (what lies outside is clipped), of shape (samples,).
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        soundfile.write(part, wave, SAMPLE_RATE, subtype="PCM_16", format="WAV")
        os.replace(part, path)
    except (OSError, soundfile.LibsndfileError) as error:
        part.unlink(missing_ok=True)
        raise OSError(f"could not write {path}: {error}; is the disk full?") from error
