"""Cutting recordings into one 16 kHz mono FLAC file (16 bit) per utterance.

A recording is opened once and read forwards, piece by piece, so that hours of audio are never in
memory; samples that are 16 kHz and 16 bit already come out bit for bit. A clip that cannot be cut
gets a reason, never a crash: one bad file must not cost the night that a corpus takes.

`Journal` remembers which clips are cut already, and from what, so that an interrupted preparation
goes on where it stopped. Its file `cuts.jsonl` lies beside the clips and holds one JSON list per
line; a line is added when its clip is complete.
"""

from __future__ import annotations

import io
import json
import math
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from espnet_blora.data import audio
from espnet_blora.utils import atomic

MIN_SECONDS = 0.1  # ESPnet drops shorter clips from training, and Whisper hears nothing in them
OVERHANG = 0.1  # an end this far beyond the recording's is a rounding error of the transcript
LONG_SECONDS = 30.0  # Whisper's window
_FULL_SCALE = 32768.0
_JOURNAL = "cuts.jsonl"


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip that is to be cut from a recording.

    Attributes:
        id: The utterance.
        start: Seconds in the recording; None, as `end`, for all of it.
        end: As `start`.
        channel: From 0; None for the mean over channels.
        target: The file to write.
    """

    id: str
    start: float | None
    end: float | None
    channel: int | None
    target: str


class Cut(NamedTuple):
    """What became of a clip.

    Attributes:
        id: The utterance.
        samples: How many there are at 16 kHz; 0 if there is a reason.
        reason: Why there is no clip; a short fixed phrase.
        detail: More about the reason.
        notes: (what, detail) of oddities that were kept.
    """

    id: str
    samples: int
    reason: str = ""
    detail: str = ""
    notes: tuple[tuple[str, str], ...] = ()


class _Unusable(Exception):
    """A clip that cannot be cut: (reason, detail)."""


def cut_recording(source: str | Path, clips: Sequence[Clip]) -> list[Cut]:
    """Cut all clips of one recording; their results come in the order of `clips`.

    Raises:
        OSError: A clip cannot be written.
    """
    source = Path(source)
    done: dict[int, Cut] = {}
    order = sorted(range(len(clips)), key=lambda i: (clips[i].start or 0.0, i))
    file: soundfile.SoundFile | None = None
    try:
        for i in order:
            try:
                if file is None:
                    file = _open(source)
                done[i] = _cut(file, clips[i])
            except _Unusable as error:
                done[i] = Cut(clips[i].id, 0, *error.args)
            except soundfile.LibsndfileError as error:
                detail = f"{source}: {error.error_string.removeprefix('Error : ')}"
                done[i] = Cut(clips[i].id, 0, "damaged audio", detail)
                if file is not None:
                    file.close()
                file = None  # a decoder that lost its way stays lost; the next clip may be good
    finally:
        if file is not None:
            file.close()
    return [done[i] for i in range(len(clips))]


def _open(source: Path) -> soundfile.SoundFile:
    """Open a recording; it raises _Unusable if that cannot be done."""
    try:
        return audio.open_audio(source)
    except FileNotFoundError as error:
        raise _Unusable("no audio", str(error)) from error
    except ValueError as error:
        raise _Unusable("unreadable audio", str(error)) from error


def _span(clip: Clip, length: int, rate: int) -> tuple[int, int, list[tuple[str, str]]]:
    """Return the first sample, the number of samples, and the notes of a clip."""
    if clip.start is None or clip.end is None:
        return 0, length, []
    seconds = length / rate
    times = f"{clip.start:g}-{clip.end:g} s of a recording of {seconds:.2f} s"
    if not (math.isfinite(clip.start) and math.isfinite(clip.end)):
        raise _Unusable("times are no numbers", times)
    if clip.end <= clip.start:
        raise _Unusable("ends before it starts", times)
    if clip.start >= seconds:
        raise _Unusable("no audio there", times)
    if clip.start < -OVERHANG or clip.end > seconds + OVERHANG:
        raise _Unusable("reaches beyond the recording", times)
    # A rounding error at either end is mended.
    first, last = round(clip.start * rate), round(clip.end * rate)
    notes = []
    if first < 0 or last > length:
        notes.append(("cut at the recording's end", times))
        first, last = max(first, 0), min(last, length)
    return first, last - first, notes


def _cut(file: soundfile.SoundFile, clip: Clip) -> Cut:
    """Cut one clip from an open recording; it raises _Unusable if that cannot be done."""
    rate, length = file.samplerate, file.frames
    if clip.channel is not None and not 0 <= clip.channel < file.channels:
        raise _Unusable(
            "no such channel", f"{file.name} has {file.channels}, found {clip.channel} (from 0)"
        )
    if length == 0:
        raise _Unusable("unreadable audio", f"{file.name}: holds no samples")
    first, count, notes = _span(clip, length, rate)
    if count < MIN_SECONDS * rate:
        raise _Unusable(f"shorter than {MIN_SECONDS} s", f"{count / rate:.3f} s")
    if count > LONG_SECONDS * rate:
        notes.append((f"longer than {LONG_SECONDS:g} s", f"{count / rate:.2f} s"))
    if file.tell() != first:
        file.seek(first)
    source = _Mono(file, count, clip.channel)
    samples = _write_flac(clip.target, audio.to_whisper(source.pieces(), rate))
    if not source.peak:
        notes.append(("silent", ""))
    return Cut(clip.id, samples, notes=tuple(notes))


class _Mono:
    """The next `count` samples of a file, of one channel or the mean; remembers the peak."""

    def __init__(self, file: soundfile.SoundFile, count: int, channel: int | None) -> None:
        self.file, self.count, self.channel = file, count, channel
        self.peak = 0.0

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield float32 of shape (samples,); raises _Unusable for audio that cannot be decoded."""
        seen, rate = 0, self.file.samplerate
        for block in audio.blocks(self.file, self.count):
            piece = block.mean(axis=1) if self.channel is None else block[:, self.channel]
            if not np.isfinite(piece).all():
                raise _Unusable("not finite", f"{self.file.name}: NaN or infinite samples")
            self.peak = max(self.peak, float(np.abs(piece).max()))
            seen += len(piece)
            yield piece
        # An MP3's length may be an estimate; of every other format the header's word counts.
        if seen < self.count and not (self.file.format == "MP3" and seen > 0.95 * self.count):
            raise _Unusable(
                "damaged audio",
                f"{self.file.name}: {seen / rate:.2f} of {self.count / rate:.2f} s can be decoded",
            )


def _write_flac(target: str, pieces: Iterator[np.ndarray]) -> int:
    """Write pieces as 16-bit FLAC, whole or not at all; return the number of samples.

    The file is encoded in memory, because libsndfile closes a file on a full disk without an error.
    """
    encoded, samples = io.BytesIO(), 0
    with soundfile.SoundFile(encoded, "w", audio.SAMPLE_RATE, 1, "PCM_16", format="FLAC") as out:
        for piece in pieces:
            out.write(np.clip(np.rint(piece * _FULL_SCALE), -32768, 32767).astype(np.int16))
            samples += len(piece)
    # not synced: clips are written by the thousand, and the same command makes them again
    # getvalue, not getbuffer: a view kept by an error crashes the garbage collector
    atomic.write(target, encoded.getvalue(), sync=False)
    return samples


def cut_all(jobs: Sequence[tuple[Path, Sequence[Clip]]], nj: int = 1) -> Iterator[list[Cut]]:
    """Cut recordings in `nj` processes; yield each recording's results in the order of `jobs`.

    The results and the files' bytes do not depend on `nj`. Folders of the targets must exist.

    Raises:
        ValueError: `nj` is below 1.
        OSError: A clip cannot be written, or a process dies.
    """
    if nj < 1:
        raise ValueError(f"nj must be at least 1, found {nj}")
    if nj == 1 or len(jobs) < 2:
        for job in jobs:
            yield cut_recording(*job)
        return
    chunk = max(1, min(32, len(jobs) // (8 * nj)))
    # spawn: the workers must not carry this process's threads and libraries into every fork
    spawn = get_context("spawn")
    # on Ctrl-C workers end at once, without a traceback each
    plain = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with ProcessPoolExecutor(min(nj, len(jobs)), mp_context=spawn, initializer=plain) as pool:
        try:
            yield from pool.map(cut_recording, *zip(*jobs, strict=True), chunksize=chunk)
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "a process that cuts audio was killed (out of memory?); use a smaller --nj"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class Journal:
    """The clips in one folder: id -> key of the source, bytes, samples and notes."""

    def __init__(self, folder: Path) -> None:
        """Read the journal of `folder`; lines cut short by a crash do not count."""
        self.folder = folder
        self.entries: dict[str, list[Any]] = {}
        path = folder / _JOURNAL
        if path.exists():
            for line in path.read_bytes().split(b"\n"):
                try:
                    key, source, size, samples, notes = json.loads(line)
                except (ValueError, TypeError):
                    continue
                self.entries[key] = [source, size, samples, notes]
        self._before = set(self.entries)
        self._sizes = {e.name: e.stat().st_size for e in os.scandir(folder) if e.is_file()}
        self._save()
        self._file = path.open("a", encoding="utf-8", newline="\n")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def lookup(self, key: str, source: str) -> Cut | None:
        """Return the result of an earlier run, if its source is the same and the clip complete."""
        entry = self.entries.get(key)
        if entry is None or entry[0] != source or self._sizes.get(f"{key}.flac") != entry[1]:
            return None
        return Cut(key, entry[2], notes=tuple((what, detail) for what, detail in entry[3]))

    def add(self, cut: Cut, source: str) -> None:
        """Remember a clip that was cut; failures are tried again in the next run.

        Raises:
            OSError: The journal cannot be written.
        """
        if cut.reason:
            self.entries.pop(cut.id, None)
            return
        size = (self.folder / f"{cut.id}.flac").stat().st_size
        self.entries[cut.id] = [source, size, cut.samples, [list(note) for note in cut.notes]]
        try:
            self._file.write(json.dumps([cut.id, *self.entries[cut.id]]) + "\n")
            self._file.flush()
        except OSError as error:
            place = str(self.folder / _JOURNAL)
            raise OSError(error.errno, f"could not write ({error.strerror})", place) from error

    def settle(self, current: Mapping[str, str]) -> None:
        """Keep the entries that are `current` (id -> key of the source); remove other clips.

        Removed are only clips that an earlier run entered here, and the temporary files of runs
        that died.
        """
        self.entries = {k: entry for k, entry in self.entries.items() if current.get(k) == entry[0]}
        for key in sorted(self._before - set(self.entries)):
            (self.folder / f"{key}.flac").unlink(missing_ok=True)
        for path in atomic.leftovers(self.folder):
            path.unlink(missing_ok=True)
        self._save()

    def _save(self) -> None:
        lines = [json.dumps([key, *self.entries[key]]) + "\n" for key in sorted(self.entries)]
        atomic.write(self.folder / _JOURNAL, "".join(lines))
