"""Speech from espeak-ng, reproducible to the bit.

espeak-ng's samples depend on what the process has spoken before, and its noisy voices on a seed
that is the time. Every utterance is therefore spoken in a fresh fork of a process that has
initialised the library and spoken nothing, after seeding the library's own generator. The library
comes from the wheel `espeakng-loader` and is reached by ctypes; nothing needs root.
"""

from __future__ import annotations

import ctypes
import os
import traceback
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import espeakng_loader
import numpy as np

SAMPLE_RATE = 22050  # Hz, fixed by espeak-ng's phoneme data
_SYNCHRONOUS = 2  # audio comes through the callback, in this thread
_UTF8 = 1
_RATE, _PITCH = 1, 3
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class _Voice(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
    ]


@dataclass(frozen=True)
class Run:
    """A stretch of speech in one language.

    Attributes:
        text: What is said.
        language: A file name below espeak-ng's `lang` (`en`, `en-US`, `cmn`).
        variant: A file name of `voices/!v` (`m1`, `f3`).
        rate: Words per minute.
        pitch: 0-99.
    """

    text: str
    language: str
    variant: str
    rate: int = 160
    pitch: int = 50


@cache
def languages() -> dict[str, str]:
    """Return the languages that there are: file name -> the name by which espeak-ng loads it."""
    root = Path(espeakng_loader.get_data_path(), "lang")
    return {p.name: p.relative_to(root).as_posix() for p in sorted(root.rglob("*")) if p.is_file()}


@cache
def variants() -> tuple[str, ...]:
    """Return the speaker variants that there are."""
    root = Path(espeakng_loader.get_data_path(), "voices", "!v")
    return tuple(sorted(p.name for p in root.iterdir()))


def check_voice(language: str, variant: str) -> None:
    """Refuse a voice that espeak-ng would replace by another one without an error.

    Raises:
        ValueError: The language or the variant is unknown; names those that there are.
    """
    if language not in languages():
        raise ValueError(f"espeak-ng has no language {language!r}; it has {', '.join(languages())}")
    if variant not in variants():
        raise ValueError(f"espeak-ng has no variant {variant!r}; it has {', '.join(variants())}")


@cache
def _library() -> ctypes.CDLL:
    """Load and initialise espeak-ng in this process, which must then only fork and not speak."""
    lib = ctypes.CDLL(espeakng_loader.get_library_path())
    lib.espeak_GetCurrentVoice.restype = ctypes.POINTER(_Voice)
    lib.espeak_Synth.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    lib.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    data = espeakng_loader.get_data_path().encode()
    rate = lib.espeak_Initialize(_SYNCHRONOUS, 0, data, 0)
    if rate != SAMPLE_RATE:
        raise RuntimeError(
            f"espeak-ng did not start: sample rate {rate}, expected {SAMPLE_RATE}; "
            "reinstall the wheel espeakng-loader at the locked version"
        )
    return lib


def _select(lib: ctypes.CDLL, run: Run) -> None:
    """Choose language, variant, rate and pitch; in a forked child only."""
    name = f"{languages()[run.language]}+{run.variant}"
    code = lib.espeak_SetVoiceByName(name.encode())
    current = lib.espeak_GetCurrentVoice()
    identifier = current.contents.identifier.decode() if current else ""
    if code != 0 or Path(identifier).name.split("+")[0] != run.language:
        raise RuntimeError(f"espeak-ng refused voice {name!r} (code {code}, got {identifier!r})")
    lib.espeak_SetParameter(_RATE, run.rate, 0)
    lib.espeak_SetParameter(_PITCH, run.pitch, 0)


def _speak(lib: ctypes.CDLL, run: Run) -> bytes:
    """Speak one stretch in a forked child: 16-bit samples at `SAMPLE_RATE`."""
    chunks: list[bytes] = []

    def collect(samples, count, _events):
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _CALLBACK(collect)
    lib.espeak_SetSynthCallback(callback)
    _select(lib, run)
    text = run.text.encode() + b"\0"
    code = lib.espeak_Synth(text, len(text), 0, 1, 0, _UTF8, None, None)
    if code == 0:
        code = lib.espeak_Synchronize()
    if code != 0:
        raise RuntimeError(f"espeak-ng could not speak {run.text!r} (code {code})")
    return b"".join(chunks)


def _in_fork(work) -> bytes:
    """Run `work() -> bytes` in a fresh fork and return its result.

    Raises:
        RuntimeError: `work` failed; the message holds its traceback.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        # the child: write the result, or the traceback, and leave without any clean-up
        status = 1
        try:
            os.close(read_end)
            try:
                payload, status = work(), 0
            except (OSError, RuntimeError, ctypes.ArgumentError):
                payload = traceback.format_exc().encode()
            with os.fdopen(write_end, "wb") as pipe:
                pipe.write(payload)
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        payload = pipe.read()
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise RuntimeError(f"speech synthesis failed (status {status}):\n{payload.decode()}")
    return payload


def synthesise(runs: list[Run], seed: int) -> list[np.ndarray]:
    """Speak `runs` one after the other.

    Args:
        runs: Stretches of speech.
        seed: Of the noisy voices.

    Returns:
        One int16 array of shape (samples,) at 22,050 Hz per run; the same call gives the same bits.

    Raises:
        ValueError: A language or a variant is unknown, or a text is empty.
        RuntimeError: espeak-ng fails.
    """
    for run in runs:
        check_voice(run.language, run.variant)
        if not run.text.strip():
            raise ValueError("cannot speak an empty text")
    lib = _library()

    def work() -> bytes:
        lib.espeak_ng_SetRandSeed(seed)
        parts = [_speak(lib, run) for run in runs]
        sizes = np.array([len(p) // 2 for p in parts], dtype=np.int64)
        return sizes.tobytes() + b"".join(parts)

    payload = _in_fork(work)
    sizes = np.frombuffer(payload, np.int64, count=len(runs))
    samples = np.frombuffer(payload, np.int16, offset=sizes.nbytes)
    return np.split(samples, np.cumsum(sizes)[:-1])
