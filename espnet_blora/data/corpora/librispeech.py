"""LibriSpeech: read English books, 16 kHz; a retention set of English.

Layout: `LibriSpeech/<subset>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt` with the FLAC
files beside it. The set `test_clean` is the subset `test-clean`. Ids are the corpus's own;
the speaker is the reader (ESPnet's recipe takes reader and chapter).

Transcripts are in capitals without punctuation, as Whisper never writes; they become lower case.
Scoring ignores case, so figures stay comparable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_blora.data.corpora import tables
from espnet_blora.data.corpora.common import (
    existing,
    find_root,
    keep,
    single_blanks,
)
from espnet_blora.data.records import Corpus, Expected, Ledger, Utterance

_SOURCE = "openslr.org/12"
_SETS = {
    "dev_clean": Expected(2703, None, _SOURCE),
    "dev_other": Expected(2864, None, _SOURCE),
    "test_clean": Expected(2620, None, _SOURCE),
    "test_other": Expected(2939, None, _SOURCE),
    "train_clean_100": Expected(),
    "train_clean_360": Expected(),
    "train_other_500": Expected(),
}


def find(path: Path) -> Path:
    """Return the folder of the subsets: `path`, `path/LibriSpeech`, or a subset's parent."""
    marks = [_folder(name) for name in _SETS]
    return find_root(path, marks, ("", "LibriSpeech"), "give the unpacked LibriSpeech")


def _folder(name: str) -> str:
    return name.replace("_", "-")


def read(
    root: Path, names: Sequence[str], ledger: Ledger, options: Mapping[str, str]
) -> dict[str, list[Utterance]]:
    """Read sets in the order of their chapters' names.

    A line without text, and a FLAC file without a line, are left out and listed.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: An id is that of another chapter; names file and line.
    """
    return {name: _read_set(root / _folder(name), ledger) for name in names}


def _read_set(folder: Path, ledger: Ledger) -> list[Utterance]:
    utterances = []
    chapters = sorted(existing(folder, f"unpack {folder.name}.tar.gz").glob("*/*/"))
    if not chapters:
        raise FileNotFoundError(f"{folder}: holds no <speaker>/<chapter> folders")
    for chapter in chapters:
        utterances += _read_chapter(chapter, ledger)
    return utterances


def _read_chapter(chapter: Path, ledger: Ledger) -> list[Utterance]:
    reader = chapter.parent.name
    stem = f"{reader}-{chapter.name}"
    transcript = chapter / f"{stem}.trans.txt"
    utterances, seen = [], set()
    for where, id, raw in tables.keyed(transcript):
        if not id.startswith(f"{stem}-"):
            raise ValueError(f"{where}: id {id!r}; expected {stem}-<number>")
        seen.add(id)
        file, text = chapter / f"{id}.flac", single_blanks(raw).lower()
        utterances += keep(Utterance(id, reader, "en", text, file, where=where), ledger)
    for file in sorted(chapter.glob("*.flac")):
        if file.stem not in seen:
            ledger.skip(str(transcript), file.stem, "no transcript", str(file))
    return utterances


CORPUS = Corpus(
    name="librispeech",
    title="LibriSpeech (OpenSLR 12), read English",
    variable="LIBRISPEECH",
    licence="CC BY 4.0",
    obtain="openslr.org/12: test-clean.tar.gz, ...; unpack them side by side",
    sets=_SETS,
    languages=("en",),
    find=find,
    read=read,
)
