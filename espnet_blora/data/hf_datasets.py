"""Datasets of the Hugging Face hub, as audio files and a manifest that corpus `custom` reads.

Read are parquet files (alone, in a folder, in folders by split) and what `save_to_disk` writes, of
one dataset or of a DatasetDict. Audio is a column of {"bytes", "path"}; the bytes become files as
they are, and are decoded by this package's own reader later. `datasets` and torchcodec are not
needed; pyarrow reads both kinds of files.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from espnet_blora.data.corpora.custom_forms import COLUMNS, SPLITS
from espnet_blora.data.records import Ledger
from espnet_blora.utils import atomic

MANIFEST = "transcripts.jsonl"
ROWS = 64
"""Rows that are in memory at a time."""
# How audio files begin; FLAC, Ogg, RIFF and AIFF say so themselves, MP3 by a tag or a frame.
_MAGIC = {b"fLaC": ".flac", b"OggS": ".ogg", b"RIFF": ".wav", b"FORM": ".aiff", b"ID3": ".mp3"}


def unpack(source: Path, folder: Path, ledger: Ledger, text: str = "") -> dict[str, int]:
    """Write a dataset as audio files and a manifest per split, whole or not at all.

    Args:
        source: A parquet file, or a folder.
        folder: Is made: a folder per split in it, or where there are none the files themselves.
        ledger: Gets the rows that cannot be used.
        text: The column of the texts; without it the first that has a usual name.

    Returns:
        Split ("" for none) -> number of utterances.

    Raises:
        FileNotFoundError: The source is not there, or holds no dataset.
        ValueError: A file is damaged, or has no column of audio or text; names those it has.
        OSError: The folder is not empty, or cannot be written.
    """
    parts = splits(source)
    counts = {}
    with atomic.new_folder(folder) as top:
        for split, files in parts.items():
            place = top / split
            (place / "audio").mkdir(parents=True, exist_ok=True)
            with (place / MANIFEST).open("w", encoding="utf-8") as manifest:
                counts[split] = 0
                for row in _rows(files, place / "audio", ledger, text):
                    manifest.write(json.dumps(row, ensure_ascii=False) + "\n")
                    counts[split] += 1
    return counts


def splits(source: Path) -> dict[str, list[Path]]:
    """Return split (`train`, `valid`, `test`, another name, or "") -> its files, in order.

    Raises:
        FileNotFoundError: The source is not there, or holds no dataset.
    """
    if source.is_file():
        return {"": [source]}
    found: defaultdict[str, list[Path]] = defaultdict(list)
    if (source / "dataset_dict.json").is_file():
        names = json.loads((source / "dataset_dict.json").read_text("utf-8"))["splits"]
        for name in names:
            found[_split(name)] += _saved(source / name)
        return dict(found)
    if (source / "state.json").is_file():
        return {"": _saved(source)}
    for path in sorted(source.rglob("*.parquet")):
        # `data/train-00000-of-00002.parquet` or `train/0000.parquet`, as on the hub
        words = [path.stem, *(part.name for part in path.relative_to(source).parents)]
        known = (_split(re.split(r"[-_.]", word)[0]) for word in words)
        found[next((name for name in known if name in SPLITS), "")].append(path)
    if not found:
        raise FileNotFoundError(
            f"{source}: no dataset: a .parquet file, a folder of them, or what save_to_disk wrote "
            "(dataset_dict.json or state.json in it) is expected"
        )
    return dict(found)


def _saved(folder: Path) -> list[Path]:
    """Return the files of one dataset that `save_to_disk` wrote."""
    state = json.loads((folder / "state.json").read_text("utf-8"))
    return [folder / file["filename"] for file in state["_data_files"]]


def _split(name: str) -> str:
    """Return this package's name of a split."""
    return next((split for split, names in SPLITS.items() if name.lower() in names), name)


def _rows(
    files: Sequence[Path], audio: Path, ledger: Ledger, text: str
) -> Iterator[dict[str, str]]:
    """Write the audio of a split, and yield its rows of the manifest."""
    used: set[str] = set()
    for path in files:
        columns: dict[str, str] = {}
        for number, row in enumerate(_read(path)):
            columns = columns or _columns(path, row, text)
            where = f"{path}:{number + 1}"
            sound, words = row[columns["file"]] or {}, row[columns["text"]]
            stem = PurePosixPath(str(sound.get("path") or "").replace("\\", "/")).stem
            stem = stem or f"{path.stem}_{number:06d}"
            if not sound.get("bytes"):
                ledger.skip(where, stem, "no audio bytes", str(sound.get("path") or ""))
                continue
            if not isinstance(words, str):
                ledger.skip(where, stem, "no text", repr(words))
                continue
            # one name per file: hubs' paths may repeat between shards
            name = stem if stem not in used else f"{stem}_{len(used):06d}"
            used.add(name)
            file = audio / f"{name}{_suffix(sound)}"
            file.write_bytes(sound["bytes"])
            entry = {"file": f"{audio.name}/{file.name}", "text": words}
            for key in ("language", "speaker"):
                value = row.get(columns.get(key, ""))
                if isinstance(value, str) or (key == "speaker" and isinstance(value, int)):
                    entry[key] = str(value)
            yield entry


def _columns(path: Path, row: Mapping[str, Any], text: str) -> dict[str, str]:
    """Return what a row's columns are called: `file`, `text`, `language`, `speaker`."""
    sounds = [key for key, value in row.items() if isinstance(value, dict) and "bytes" in value]
    texts = [text] if text else [key for key in COLUMNS["text"] if key in row]
    if not sounds or not texts or texts[0] not in row:
        lacks = "audio ({bytes, path})" if not sounds else f"text ({text or 'a usual name'})"
        raise ValueError(
            f"{path}: no column of {lacks}; the columns: {', '.join(row)}. Another column of texts "
            "is named by --text"
        )
    named = {"file": sounds[0], "text": texts[0]}
    for key in ("language", "speaker"):
        named |= {key: next((name for name in COLUMNS[key] if name in row), "")}
    return named


def _suffix(sound: Mapping[str, Any]) -> str:
    """Return the suffix of audio bytes; that of their path where they do not tell."""
    data: bytes = sound["bytes"]
    for magic, suffix in _MAGIC.items():
        if data.startswith(magic):
            return suffix
    if data[:1] == b"\xff" and data[1:2] >= b"\xe0":
        return ".mp3"
    return PurePosixPath(str(sound.get("path") or "")).suffix.lower() or ".wav"


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a parquet or Arrow file."""
    import pyarrow
    from pyarrow import ipc, parquet

    try:
        if path.suffix == ".parquet":
            for batch in parquet.ParquetFile(path).iter_batches(ROWS):
                yield from batch.to_pylist()
            return
        with pyarrow.memory_map(str(path)) as file, ipc.open_stream(file) as stream:
            for batch in stream:
                for begin in range(0, batch.num_rows, ROWS):
                    yield from batch.slice(begin, ROWS).to_pylist()
    except pyarrow.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path}: damaged, or not such a file ({reason}); fetch it again"
        ) from error
