"""Audio that needs no text: Kaldi data directories, folders of audio files, and files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_blora.data import audio
from espnet_blora.data.kaldi import read_segments, read_utt2lang
from espnet_blora.utils.keyed import read_keyed


@dataclass(frozen=True)
class Place:
    """Where an utterance lies: a file, from `start` to `end` seconds (None: its end)."""

    path: str
    start: float = 0.0
    end: float | None = None


class Clips(Mapping[str, np.ndarray]):
    """Utterance -> its samples at 16 kHz, float32, read when they are asked for.

    Attributes:
        places: Utterance -> where it lies.
    """

    def __init__(self, places: Mapping[str, Place]) -> None:
        self.places = dict(places)

    def __getitem__(self, utterance: str) -> np.ndarray:
        place = self.places[utterance]
        return audio.read(place.path, place.start, place.end)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def find(
    source: str | Path, languages: Collection[str] | None = None, most: int | None = None
) -> tuple[dict[str, Place], dict[str, str]]:
    """Return where the utterances of a source lie, and the languages that are given for them.

    Args:
        source: A Kaldi data directory (`wav.scp`, and `segments` and `utt2lang` where they are
            there; no text, no speakers), a folder of audio files, at any depth, or an audio file.
        languages: Codes that utt2lang may hold.
        most: So many utterances at most, spread over the sorted ids; by default all.

    Returns:
        {utterance: place} in the order of the ids, and {utterance: code}. An utterance of a
        directory is named DIRECTORY/ID, a file by its path.

    Raises:
        FileNotFoundError: There is no such file, or the directory has neither wav.scp nor an audio
            file.
        ValueError: A file of the directory is malformed, an entry of wav.scp is a pipe or a place
            in an archive, an utterance has no language although utt2lang is there, or there is no
            utterance; `most` is below 1.
    """
    folder = Path(source)
    if not folder.is_dir():
        if not folder.is_file():
            raise FileNotFoundError(f"{source}: neither a Kaldi data directory nor an audio file")
        return {str(source): Place(str(source))}, {}
    if not (folder / "wav.scp").exists():
        return _files(folder, most), {}
    # Recordings, or what is cut from them.
    recordings = read_keyed(folder / "wav.scp")
    for key, path in recordings.items():
        if path.endswith("|") or audio.is_archive_offset(path):
            raise ValueError(
                f"{folder}/wav.scp: {key!r} is not a file: {path!r}; stage 3 makes files of it: "
                "name the set in dump/raw instead"
            )
    places = {key: Place(path) for key, path in recordings.items()}
    if (cuts := read_segments(folder, recordings)) is not None:
        places = {
            key: Place(recordings[cut.recording], cut.start, cut.end) for key, cut in cuts.items()
        }
    if not places:
        raise ValueError(f"{folder}/wav.scp: no utterances")
    kept = spread(sorted(places), most)
    # Their languages.
    codes: dict[str, str] = {}
    if (folder / "utt2lang").exists():
        codes = read_utt2lang(folder / "utt2lang", languages)
        if missing := sorted(places.keys() - codes.keys()):
            raise ValueError(f"{folder}/utt2lang: no language for {missing[0]}; add it")
    named = {f"{folder}/{key}": places[key] for key in kept}
    return named, {f"{folder}/{key}": codes[key] for key in kept if key in codes}


def _files(folder: Path, most: int | None) -> dict[str, Place]:
    """Return the audio files below a folder, each as an utterance.

    Raises:
        FileNotFoundError: There is none.
        ValueError: `most` is below 1.
    """
    known = audio.SUFFIXES + audio.FOREIGN  # reading refuses the latter, with the remedy
    found = sorted(str(p) for p in folder.rglob("*") if p.suffix.lower() in known)
    if not found:
        raise FileNotFoundError(
            f"{folder}: neither wav.scp nor audio files ({' '.join(audio.SUFFIXES)}) in this folder"
        )
    return {path: Place(path) for path in spread(found, most)}


def spread(ids: Sequence[str], most: int | None = None) -> list[str]:
    """Return at most so many of the ids, evenly spread over them.

    >>> spread(["a", "b", "c", "d"], 2)
    ['a', 'c']

    Raises:
        ValueError: `most` is below 1.
    """
    if most is not None and most < 1:
        raise ValueError(f"{most} utterances of each set are asked for; allowed: 1 or more")
    count = min(most or len(ids), len(ids))
    return [ids[number * len(ids) // count] for number in range(count)]
