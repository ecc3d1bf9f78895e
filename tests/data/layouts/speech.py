"""Speech and sounds for synthetic corpora: espeak-ng's voices, tones, and files of every format.

Waves are float32 in [-1, 1] of shape (samples,) or (samples, channels). The same call gives the
same bits, in every process.
"""

import atexit
import functools
import itertools
import os
import pickle
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from espnet_blora.data import espeak
from espnet_blora.text import is_han_kana, script_of

RATE = 16000
VOICES = ("m1", "f1", "m2", "f2", "m3", "f3", "m4", "f4")  # for speakers, by number
# Whisper's code -> espeak-ng's, where they differ; a neighbour's voice for what it lacks
_ESPEAK = {"zh": "cmn", "rw": "sw", "lg": "sw"}


def _language(char: str, language: str) -> str | None:
    """Whose voice reads a character; None where it belongs to what stands beside it."""
    if not char.isalnum():
        return None
    if is_han_kana(char):
        return "zh"
    if script_of(char) == "Arabic":
        return "ar"
    if script_of(char) == "Latin" and language in ("zh", "ar"):
        return "en"
    return None if char.isdigit() else language


def _runs(text: str, language: str, voice: str) -> list[espeak.Run]:
    """Cut a code-switched text into what each language's voice reads."""
    owners, now = [], None
    for char in text:
        now = _language(char, language) or now
        owners.append(now or language)
    runs = []
    for owner, group in itertools.groupby(zip(owners, text, strict=True), key=lambda pair: pair[0]):
        stretch = "".join(char if char.isalnum() else " " for _, char in group).strip()
        if stretch:
            runs.append(espeak.Run(stretch, _ESPEAK.get(owner, owner), voice, rate=200))
    return runs


@functools.cache
def _speaker() -> subprocess.Popen:
    """A small process that speaks: espeak forks, which takes long in one as large as all tests."""
    code = """
import pickle, sys
from espnet_blora.data.espeak import synthesise
while sys.stdin.buffer.peek(1):
    pickle.dump(synthesise(*pickle.load(sys.stdin.buffer)), sys.stdout.buffer)
    sys.stdout.flush()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipe = subprocess.PIPE
    speaker = subprocess.Popen(
        [sys.executable, "-c", code], stdin=pipe, stdout=pipe, env=environment
    )
    atexit.register(speaker.communicate)  # which ends it
    return speaker


def _synthesise(runs: list[espeak.Run], seed: int) -> list[np.ndarray]:
    pickle.dump((runs, seed), _speaker().stdin)
    _speaker().stdin.flush()
    return pickle.load(_speaker().stdout)


@functools.cache
def _said(text: str, language: str, voice: str, rate: int) -> np.ndarray:
    runs = _runs(text, language, voice)
    if not runs:
        return tone(0.3, 300.0, rate)
    waves = _synthesise(runs, len(text))
    wave = np.concatenate(waves).astype(np.float32) / 32768
    return soxr.resample(wave, espeak.SAMPLE_RATE, rate, quality="HQ").astype(np.float32)


def say(
    text: str,
    language: str,
    seconds: float | None = None,
    rate: int = RATE,
    voice: str = VOICES[0],
) -> np.ndarray:
    """Speak a text: float32 of shape (samples,) at `rate` Hz, spoken once a process.

    `language` is Whisper's code; Latin words in Chinese or Arabic text are read in English. With
    `seconds` the wave is cut, or filled with silence, to exactly that length. A text without
    letters gives a short tone.
    """
    wave = _said(text, language, voice, rate)
    return wave.copy() if seconds is None else fit(wave, round(seconds * rate))


def fit(wave: np.ndarray, samples: int) -> np.ndarray:
    """Cut a wave, or fill it with silence, to `samples`."""
    return np.concatenate([wave, np.zeros(max(0, samples - len(wave)), np.float32)])[:samples]


def tone(seconds: float, hz: float, rate: int = RATE) -> np.ndarray:
    """A sine at half of full scale, for tests in which only side or place matters."""
    phase = 2 * np.pi * hz * np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(phase)).astype(np.float32)


def loudest_hz(wave: np.ndarray, rate: int = RATE) -> float:
    """The frequency with most energy: which tone this is."""
    spectrum = np.abs(np.fft.rfft(np.asarray(wave, dtype=np.float64) * np.hanning(len(wave))))
    return float(np.argmax(spectrum) * rate / len(wave))


def recording(
    pieces: Iterable[tuple[float, np.ndarray]], seconds: float, rate: int = RATE
) -> np.ndarray:
    """A recording of `seconds` with each wave at its start (in seconds) and silence between."""
    wave = np.zeros(round(seconds * rate), np.float32)
    for start, piece in pieces:
        first = round(start * rate)
        room = wave[first : first + len(piece)]
        room += piece[: len(room)]
    return np.clip(wave, -1.0, 1.0)


def stereo(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two waves as the channels of one, the shorter filled with silence."""
    samples = max(len(left), len(right))
    return np.stack([fit(left, samples), fit(right, samples)], axis=1)


def write(path: str | Path, wave: np.ndarray, rate: int = RATE) -> Path:
    """Write a file of the format its suffix names: .flac, .wav (16 bit), .mp3, .sph (u-law)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix.lower()
    if kind == ".sph":
        write_sphere(path, wave, rate)
    elif kind == ".mp3":
        soundfile.write(path, wave, rate, format="MP3")
    else:
        soundfile.write(path, wave, rate, format=kind[1:].upper(), subtype="PCM_16")
    return path


def ulaw(wave: np.ndarray) -> bytes:
    """G.711 u-law bytes, channels interleaved."""
    pcm = np.clip(np.round(np.asarray(wave, np.float64) * 32767), -32635, 32635).astype(np.int32)
    magnitude = np.abs(pcm) + 132
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 15
    sign = np.where(pcm < 0, 128, 0)
    return (~(sign | (exponent << 4) | mantissa) & 255).astype(np.uint8).tobytes()


def write_sphere(path: str | Path, wave: np.ndarray, rate: int = 8000) -> None:
    """Write NIST SPHERE as LDC's telephone corpora are: 1024-byte header, 8-bit u-law."""
    channels = 1 if wave.ndim == 1 else wave.shape[1]
    header = (
        "NIST_1A\n   1024\n"
        f"channel_count -i {channels}\n"
        f"sample_count -i {len(wave)}\n"
        f"sample_rate -i {rate}\n"
        "sample_n_bytes -i 1\n"
        "sample_byte_format -s1 1\n"
        "sample_coding -s4 ulaw\n"
        "end_head\n"
    )
    Path(path).write_bytes(header.encode("ascii").ljust(1024) + ulaw(wave))
