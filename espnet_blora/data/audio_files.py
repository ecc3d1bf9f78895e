"""Audio files for transcription: complete and intact, or an error that says what is wrong.

What soundfile cannot read is decoded by ffmpeg, where that is installed. What comes through a pipe
is copied to a temporary file. A file is read through once before anything is decoded, so that a
recording that breaks off after two hours is known at once. A short file is in memory by then; a
long one is read again in blocks and is never in memory as a whole.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from espnet_blora.data import audio

HEAD_SECONDS = 30
"""Seconds of a file that are kept in memory: Whisper's window."""

STDIN = "-"
"""Stands for standard input."""

LOUDEST = 4.0
"""Samples above this are no audio in full scale of 1."""

_ALONE = "where that is 12 dB softer than the loudest channel, the loudest is taken alone"

_MISSING_SECONDS = 0.05  # sloppy headers are wrong by a few bytes; a broken download lacks more
_MP3_SHARE = 0.95  # an MP3's length may be an estimate

# libsndfile's log, where a header promises more bytes than there are; streams have no length and
# write the largest number instead
_PROMISED = re.compile(r"^\s*(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_DS64 = re.compile(r"Calculated frame count (\d+) does not match .* of (\d+)")
_NO_LENGTH = (2**31, 2**32)
# ffmpeg's names for its own parts, such as "[mov,mp4 @ 0x55df86d850c0] "
_FFMPEGS_PART = re.compile(r"^(?:\[[^\]]* @ 0x[0-9a-f]+\] )+", re.MULTILINE)
_SPHERE_COUNT = re.compile(rb"sample_count -i (\d+)")


@dataclass(frozen=True, eq=False)
class AudioFile:
    """A file that was read through without a fault, as 16 kHz mono float32.

    Iterating reads it (again, where it is longer than `head`) in blocks of shape (samples,).

    Attributes:
        path: The file that is read: a temporary one of what came through a pipe or ffmpeg.
        samples: How many there are at 16 kHz.
        loudness: Of each frame of 20 ms, in dB.
        head: The first 30 s of the samples, or fewer.
        notes: What was done to the file or is odd about it.
        temporary: Removes the temporary file when it is let go.
    """

    path: Path
    samples: int
    loudness: np.ndarray
    head: np.ndarray
    notes: tuple[str, ...] = ()
    temporary: Any = None

    def __iter__(self) -> Iterator[np.ndarray]:
        if len(self.head) == self.samples:
            yield self.head
        else:
            yield from _blocks(self.path, [])

    @classmethod
    def open(cls, path: str | Path) -> AudioFile:
        """Read a file through; `-` is standard input.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is a folder; neither soundfile nor ffmpeg can read it; it has no samples,
                or not as many as its header promises; or samples are NaN or infinite.
        """
        path = Path(path)
        if path.is_dir():
            raise ValueError(f"{path}: a folder; name the files in it: {path}/*.wav")
        notes: list[str] = []
        if str(path) != STDIN and (path.is_file() or not path.exists()):
            try:
                return cls._through(path, notes)
            except audio.UnreadableError as error:
                return cls._by_ffmpeg(path, notes, error)
        return cls._piped(path)

    @classmethod
    def _piped(cls, path: Path) -> AudioFile:
        """Copy what comes from standard input or a pipe, and read that."""
        copy = tempfile.NamedTemporaryFile(suffix=path.suffix)  # noqa: SIM115
        with nullcontext(sys.stdin.buffer) if str(path) == STDIN else path.open("rb") as source:
            shutil.copyfileobj(source, copy)
        copy.flush()
        with _naming(path, copy.name):
            found = cls.open(copy.name)
        return replace(found, temporary=(copy, found.temporary))

    @classmethod
    def _by_ffmpeg(cls, path: Path, notes: list[str], error: Exception) -> AudioFile:
        """Read what ffmpeg makes of a file that soundfile cannot read.

        Raises:
            ValueError: ffmpeg is not there, or cannot read it either.
        """
        program = shutil.which("ffmpeg")
        if program is None or not path.stat().st_size:
            raise error
        wave = tempfile.NamedTemporaryFile(suffix=".wav")  # noqa: SIM115
        command = [program, "-nostdin", "-v", "error", "-y", "-i", f"file:{path}"]
        command += ["-vn", "-ar", str(audio.SAMPLE_RATE), "-c:a", "pcm_s16le", wave.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        # its first line is the reason; what follows is what it came to
        said = _FFMPEGS_PART.sub("", done.stderr).strip().partition("\n")[0]
        if done.returncode:
            raise ValueError(
                f"{path}: cannot be read as audio, neither by soundfile nor by ffmpeg "
                f"({said or 'no reason is given'})"
            ) from error
        lost = f", which says: {said}; what is damaged or cut off is not heard" if said else ""
        notes.append("decoded by ffmpeg" + lost)
        with _naming(path, wave.name):
            return replace(cls._through(Path(wave.name), notes), temporary=wave)

    @classmethod
    def _through(cls, path: Path, notes: list[str]) -> AudioFile:
        """Read a file through that soundfile can read."""
        # Read all of the file once, keep its beginning.
        head: list[np.ndarray] = []
        levels: list[np.ndarray] = []
        rest = np.zeros(0, np.float32)
        samples, room, peak = 0, HEAD_SECONDS * audio.SAMPLE_RATE, 0.0
        for block in _blocks(path, notes):
            if samples < room:
                head.append(block[: room - samples])
            samples += len(block)
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
            # a frame may lie across two blocks
            waiting = np.concatenate([rest, block])
            whole = len(waiting) // audio.FRAME * audio.FRAME
            levels.append(audio.loudness(waiting[:whole]))
            rest = waiting[whole:]
        if not samples:
            raise ValueError(f"{path}: holds no samples: nothing to transcribe")
        if not peak:
            notes.append("all samples are zero")
        if peak > LOUDEST:
            notes.append(f"samples of up to {peak:g}, full scale is 1: integers stored as floats?")
        loudness = np.concatenate([*levels, audio.loudness(rest)])
        return cls(path, samples, loudness, np.concatenate(head), tuple(notes))


def _blocks(path: Path, notes: list[str]) -> Iterator[np.ndarray]:
    """Yield blocks at 16 kHz, mono; what is done to them is added to `notes`."""
    with audio.open_audio(path) as file:
        if file.channels > 1:
            notes.append(f"{file.channels} channels, their mean is taken")
        if file.samplerate != audio.SAMPLE_RATE:
            notes.append(f"{file.samplerate} Hz, resampled to {audio.SAMPLE_RATE}")
        if file.format == "OGG" and not _ends(path):
            notes.append("no end mark in the Ogg stream, which may be cut off")
        try:
            yield from audio.to_whisper(_checked(path, file, notes), file.samplerate)
        except soundfile.LibsndfileError as error:
            raise _broken(path, error.error_string.removeprefix("Error : ").rstrip(".")) from error


@contextmanager
def _naming(path: Path, temporary: str) -> Iterator[None]:
    """Let errors name the file that was given, not the temporary one.

    Raises:
        ValueError: The temporary file cannot be read.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error).replace(temporary, str(path))) from error


def _checked(path: Path, file: soundfile.SoundFile, notes: list[str]) -> Iterator[np.ndarray]:
    """Yield the file's own blocks, mixed down.

    Raises:
        ValueError: Samples are not finite, or fewer than the header promises.
    """
    promised = max(file.frames, _promised_frames(path, file))
    seen = 0
    for block in audio.blocks(file):
        mono, alone = audio.mixed(block)
        if alone and _ALONE not in notes:
            notes.append(_ALONE)
        if not (finite := np.isfinite(mono)).all():
            at = (seen + int(finite.argmin())) / file.samplerate
            raise ValueError(
                f"{path}: NaN or infinite samples, first at {at:.2f} s; export the file anew, as "
                "16-bit PCM"
            )
        seen += len(mono)
        yield mono
    # A header may be sloppy, an MP3's length is an estimate; beyond that the file is cut off.
    enough = promised * _MP3_SHARE if file.format == "MP3" else promised
    if seen < enough - _MISSING_SECONDS * file.samplerate * (promised > file.frames):
        decoded, expected = (n / file.samplerate for n in (seen, promised))
        raise _broken(path, f"{decoded:.2f} of the {expected:.2f} s of its header can be decoded")


def _promised_frames(path: Path, file: soundfile.SoundFile) -> int:
    """Return how many frames the header promises, where that is more than libsndfile says."""
    if file.format == "NIST":
        with path.open("rb") as opened:
            count = _SPHERE_COUNT.search(opened.read(1024))
        return int(count[1]) if count else 0
    if lengths := _DS64.search(file.extra_info):
        return int(lengths[2])
    if lengths := _PROMISED.search(file.extra_info):
        promised, there = int(lengths[1]), int(lengths[2])
        if there and all(abs(promised - limit) > 2**12 for limit in _NO_LENGTH):
            return file.frames * promised // there
    return 0


def _ends(path: Path) -> bool:
    """Tell whether an Ogg file's last page says that it is the last (RFC 3533, section 6)."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2**16))  # a page is smaller
        tail = file.read()
    at = tail.rfind(b"OggS")
    return 0 <= at < len(tail) - 5 and bool(tail[at + 5] & 4)


def _broken(path: Path, what: str) -> ValueError:
    return ValueError(
        f"{path}: damaged or cut off ({what}); fetch it again, or write what is there to a new "
        f"file: ffmpeg -i {path.name} whole_{path.stem}.wav"
    )
