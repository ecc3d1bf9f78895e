"""Audio files: their lengths, and their conversion to 16 kHz mono.

Whisper hears 16 kHz mono. Whatever soundfile reads (WAV, FLAC, MP3, OGG, NIST SPHERE with linear or
u-law samples, ...) can be converted. For files that it cannot read (m4a, shortened SPHERE) the
error names the command that converts them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from espnet_blora.utils import atomic

SAMPLE_RATE = 16000
SUFFIXES = tuple(".wav .flac .mp3 .ogg .opus .sph .aif .aiff .au".split())
"""Of files that soundfile reads."""
FOREIGN = tuple(".m4a .mp4 .aac .wma .webm .mkv .mov .3gp .amr .mka .ac3".split())
"""Of files that must be converted before."""
FRAME = 320
"""Samples of a frame of 20 ms, which is a memory position of Whisper's encoder."""
_BLOCK_SECONDS = 30  # of a long recording held in memory at a time
_UNKNOWN = 2**62  # libsndfile's answer is above this where a header does not say the length
_RATES = (4000, 768000)  # Hz; outside, the header is wrong


_DROWNED = 10**-1.2
"""Power of the channels' mean over that of the loudest one, 12 dB, below which the mean is not that
of what is said: channels cancel each other, or most of them are silent (5.1)."""


class UnreadableError(ValueError):
    """soundfile cannot read a file."""


def is_archive_offset(place: str) -> bool:
    """Tell whether an entry of wav.scp points into a Kaldi archive.

    >>> is_archive_offset("dump/wav.ark:123"), is_archive_offset("clips/a:b.wav")
    (True, False)
    """
    return re.search(r":\d+$", place) is not None


def open_audio(path: str | Path) -> soundfile.SoundFile:
    """Open a file for reading.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: soundfile cannot read it, or its header is impossible; says what the decoder
            said, and the remedy where it is known.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such audio file")
    try:
        file = soundfile.SoundFile(os.fsencode(path))  # as bytes: it may not be UTF-8
    except (soundfile.LibsndfileError, OSError) as error:
        raise UnreadableError(
            f"{path}: cannot be read as audio ({_reason(error)}){_remedy(path)}"
        ) from (error)
    if not _RATES[0] <= file.samplerate <= _RATES[1]:
        file.close()
        raise ValueError(
            f"{path}: impossible sampling rate {file.samplerate} Hz; "
            f"{_RATES[0]} to {_RATES[1]} are read"
        )
    if file.frames >= _UNKNOWN:  # as ffmpeg writes FLAC into a pipe; libsndfile cannot seek in it
        file.close()
        raise ValueError(
            f"{path}: its header does not say how long it is; write it again: "
            f"ffmpeg -i {path.name} -c:a flac new_{path.name}"
        )
    return file


def _reason(error: Exception) -> str:
    """Return libsndfile's message without the path, which stands before it already."""
    text = getattr(error, "error_string", "") or str(error)
    return text.removeprefix("Error : ").rstrip(".")


def _remedy(path: Path) -> str:
    """Return the end of an error message: how to make the file readable, where that is known."""
    if path.suffix.lower() in FOREIGN:
        return (
            "; transcribe reads it where ffmpeg is installed, for all else convert it first: "
            f"ffmpeg -i {path.name} -ar 16000 -ac 1 {path.stem}.wav"
        )
    with path.open("rb") as file:
        head = file.read(1024)
    if not head:
        return "; the file is empty: fetch it again"
    if b"shorten" in head:
        return f"; it is shortened: sph2pipe -f wav -p {path.name} {path.stem}.wav"
    return ""


def blocks(file: soundfile.SoundFile, count: int | None = None) -> Iterator[np.ndarray]:
    """Yield the next `count` samples (default: all that follow) piece by piece.

    Pieces are float32 of shape (samples, channels); together they are shorter than `count` where
    the file ends earlier.
    """
    size = _BLOCK_SECONDS * file.samplerate
    while count is None or count > 0:
        block = file.read(size if count is None else min(size, count), "float32", always_2d=True)
        if not len(block):
            return
        yield block
        if count is not None:
            count -= len(block)


def mixed(block: np.ndarray) -> tuple[np.ndarray, bool]:
    """Mix channels down: (S, C) -> (S,), and whether it is the loudest channel alone.

    It is the channels' mean, unless that is 12 dB softer than the loudest channel.
    """
    mean = block.mean(axis=1)
    powers = np.einsum("ij,ij->j", block, block)
    if mean @ mean < _DROWNED * powers.max(initial=0.0):
        return np.ascontiguousarray(block[:, powers.argmax()]), True
    return mean, False


def to_whisper(pieces: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """Resample float32 pieces of shape (samples,) from `rate` to 16 kHz as one stream."""
    if rate == SAMPLE_RATE:
        yield from pieces
        return
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for piece in pieces:
        yield stream.resample_chunk(np.ascontiguousarray(piece))
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def loudness(wave: np.ndarray) -> np.ndarray:
    """Return the mean power of each frame in dB, -100 at least: (S,) -> (ceil(S / 320),) fp32."""
    frames = np.pad(wave, (0, -len(wave) % FRAME)).reshape(-1, FRAME)
    power = np.einsum("ij,ij->i", frames, frames) / FRAME
    return 10 * np.log10(np.maximum(power, 1e-10)).astype(np.float32)


def look(path: str | Path) -> tuple[float, int, int]:
    """Return an audio file's length in seconds, its sampling rate in Hz and its channels.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read.
    """
    with open_audio(path) as file:
        return file.frames / file.samplerate, file.samplerate, file.channels


def duration(path: str | Path) -> float:
    """Return the length of an audio file in seconds; it raises the errors of `look`."""
    return look(path)[0]


def read(path: str | Path, start: float = 0.0, end: float | None = None) -> np.ndarray:
    """Read a file as float32 of shape (samples,) at 16 kHz; channels are mixed down.

    Args:
        path: The file.
        start: Where to begin, in seconds.
        end: Where to stop, in seconds; by default with the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read or holds no samples (between `start` and `end`).
    """
    with open_audio(path) as file:
        first = min(round(start * file.samplerate), file.frames)
        count = None if end is None else round(end * file.samplerate) - first
        try:
            if first:  # an MP3 read after a jump to its beginning differs in the last bits
                file.seek(first)
            wave = [mixed(block)[0] for block in blocks(file, count)]
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{path}: damaged audio ({_reason(error)})") from error
        if not wave:
            where = "" if end is None else f" from {start:g} to {end:g} s"
            raise ValueError(f"{path}: holds no samples{where}")
        return np.concatenate(list(to_whisper(wave, file.samplerate)))


def write(path: str | Path, wave: np.ndarray) -> None:
    """Write samples at 16 kHz as 16-bit WAV; the file appears whole or not at all.

    Args:
        path: The file.
        wave: int16, or float in [-1, 1] (values outside are clipped), of shape (samples,).

    Raises:
        OSError: The file cannot be written.
    """
    try:
        # not synced: files are written by the thousand, and the same command makes them again
        with atomic.writing(path, sync=False) as file:
            soundfile.write(file, wave, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    except soundfile.LibsndfileError as error:
        raise OSError(f"could not write {path}: {error}; is the disk full?") from error
