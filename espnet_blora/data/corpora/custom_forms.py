"""The forms of own speech data: a Kaldi directory, a table, audio and text files side by side.

Each reader yields `Raw` utterances, in an order that may depend on the files' names but not on the
listing of a directory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from espnet_blora.data.audio import FOREIGN, SUFFIXES, is_archive_offset
from espnet_blora.data.corpora import tables
from espnet_blora.data.kaldi import Segment, parse_segment
from espnet_blora.data.records import Ledger

TABLES = (
    *("transcripts.tsv", "transcripts.csv", "transcripts.jsonl"),
    *("metadata.csv", "metadata.jsonl"),  # of Hugging Face's audiofolder
)
_TABLE = (".tsv", ".csv", ".jsonl")
COLUMNS = {
    "file": "file path audio wav file_name filename audio_path wav_path audio_filepath".split(),
    "text": "text transcript transcription sentence".split(),
    "language": "language lang locale".split(),
    "speaker": "speaker speaker_id spk client_id".split(),
    "offset": ["offset"],
    "duration": ["duration"],
}
_MOST = 4  # columns of a table without a header
SPLITS = {
    "train": ("train",),
    "valid": ("valid", "dev", "val", "validation"),
    "test": ("test", "eval"),
}


@dataclass(frozen=True, slots=True)
class Raw:
    """One utterance as its owner names it; `speaker` and `language` are "" if not given."""

    name: str
    text: str
    audio: Path
    where: str
    speaker: str = ""
    language: str = ""
    start: float | None = None
    end: float | None = None


def form_of(root: Path) -> str:
    """Return the form of a path: `kaldi`, `splits`, `table`, `files` or "" for none."""
    if root.is_file():
        return "table" if root.suffix.lower() in _TABLE else ""
    if not root.is_dir():
        return ""
    if (root / "wav.scp").is_file():
        return "kaldi"
    if split_folders(root):
        return "splits"
    if table_in(root):
        return "table"
    has_audio = any(p.suffix.lower() in SUFFIXES + FOREIGN for p in root.rglob("*"))
    return "files" if has_audio else ""


def split_folders(root: Path) -> dict[str, Path]:
    """Return set -> folder, if all of train, valid (dev) and test (eval) are there.

    Each is a Kaldi directory or has a table.
    """
    folders = {}
    for part, names in SPLITS.items():
        there = [root / name for name in names if _is_set(root / name)]
        if len(there) > 1:
            both = " and ".join(path.name for path in there)
            raise ValueError(f"{root}: holds {both}; which is the {part} set? rename the other")
        if there:
            folders[part] = there[0]
    return folders if len(folders) == len(SPLITS) else {}


def _is_set(folder: Path) -> bool:
    return (folder / "wav.scp").is_file() or any((folder / name).is_file() for name in TABLES)


def other_tables(root: Path) -> list[str]:
    """Return the names of tables in a folder whose names are not in `TABLES`."""
    if not root.is_dir():
        return []
    return sorted(
        p.name for p in root.iterdir() if p.suffix.lower() in _TABLE and p.name not in TABLES
    )


def table_in(root: Path) -> Path | None:
    """Return the table of a folder; a path that is a file is the table."""
    if root.is_file():
        return root
    tables_there = [root / name for name in TABLES if (root / name).is_file()]
    if len(tables_there) > 1:
        there = " and ".join(path.name for path in tables_there)
        raise ValueError(f"{root}: holds {there}; give the one that counts")
    return tables_there[0] if tables_there else None


def read_form(root: Path, ledger: Ledger) -> list[Raw]:
    """Read a path of any form.

    Raises:
        ValueError: The data is malformed; names file and line, and says what to do.
    """
    readers = {"kaldi": _kaldi, "table": _table, "files": _files}
    raws = list(readers[form_of(root)](root, ledger))
    foreign = [raw for raw in raws if raw.audio.suffix.lower() in FOREIGN]
    if foreign:
        old = foreign[0].audio
        raise ValueError(
            f"{foreign[0].where}: {old.name} cannot be read, nor can {len(foreign) - 1} more "
            f"{', '.join(sorted({raw.audio.suffix for raw in foreign}))} files; convert them: "
            f"ffmpeg -i {old.name} -ar 16000 -ac 1 {old.stem}.wav"
        )
    return raws


def _files(root: Path, ledger: Ledger) -> Iterator[Raw]:
    """Read audio files anywhere below a folder, each with `<stem>.txt` beside it."""
    # All files, by their path without suffix.
    audio: dict[Path, Path] = {}
    texts: dict[Path, Path] = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p.name[0] != "."):
        stem, suffix = path.with_suffix(""), path.suffix.lower()
        if suffix == ".txt":
            texts[stem] = path
        elif suffix in SUFFIXES + FOREIGN:
            if stem in audio:
                raise ValueError(
                    f"{path}: {audio[stem].name} is there too, and which of them "
                    f"{path.stem}.txt belongs to is not clear; keep one of them"
                )
            audio[stem] = path
    # Pairs of audio and text.
    for stem, path in audio.items():
        name = stem.relative_to(root).as_posix()
        if stem not in texts:
            ledger.skip(str(path), name, "no transcript", f"{path.stem}.txt is not beside it")
            continue
        text = " ".join(line for _, line in tables.lines(_utf8(texts[stem])))
        yield Raw(name, text, path, f"{texts[stem]}:1")
    for stem in sorted(texts.keys() - audio.keys()):
        name = stem.relative_to(root).as_posix()
        ledger.skip(f"{texts[stem]}:1", name, "text without audio", "no audio file beside it")


def _utf8(path: Path) -> Path:
    """Return the path, or raise ValueError for UTF-16, which some programs call "Unicode"."""
    with path.open("rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise ValueError(
                f"{path}:1: UTF-16; save the file as UTF-8 (in Excel: 'CSV UTF-8'), or: "
                f"iconv -f UTF-16 -t UTF-8 {path.name} > new_{path.name}"
            )
    return path


def _rows(path: Path, ledger: Ledger) -> Iterator[tuple[str, list[str]]]:
    """Yield rows of a table with their places; TSV is never quoted, CSV is as Excel writes it."""
    with _utf8(path).open("rb") as file:
        if file.read(3) == b"\xef\xbb\xbf":
            ledger.note(f"{path}:1", "", "byte order mark at the beginning passed over")
    if path.suffix.lower() == ".tsv":
        for where, line in tables.lines(path):
            if line.strip():
                yield where, line.split("\t")
        return
    if path.suffix.lower() == ".jsonl":
        yield from _json_rows(path)
        return
    # CSV: a semicolon separates the fields if the first line has one and no comma.
    first = next((line for _, line in tables.lines(path)), "")
    delimiter = ";" if ";" in first and "," not in first else ","
    if delimiter == ";":
        ledger.note(f"{path}:1", "", "fields separated by semicolons, as some Excels write")
    yield from tables.csv_fields(path, delimiter)


def _json_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield a header and the rows of a manifest: one JSON object per line (NeMo and others)."""
    yield f"{path}:1", list(COLUMNS)
    for where, entry in tables.json_lines(path, ()):
        if isinstance(entry.get("audio"), dict):  # of Whisper-Finetune and of datasets
            audio = entry["audio"]
            entry |= {"audio": audio.get("path")}
            if "start_time" in audio and "end_time" in audio:
                times = (audio["start_time"], audio["end_time"])
                start, end = (_seconds(str(time), where) for time in times)
                entry |= {"offset": start, "duration": end - start}
        row = {
            column: next((entry[key] for key in known if isinstance(entry.get(key), str)), None)
            for column, known in COLUMNS.items()
        }
        given = {key: entry.get(key) for key in ("offset", "duration")}
        row |= {key: str(time) for key, time in given.items() if time is not None}
        if absent := [column for column in ("file", "text") if row[column] is None]:
            names = "; ".join(f"{column}: {', '.join(COLUMNS[column])}" for column in absent)
            raise ValueError(f"{where}: none of {names}; the keys here: {', '.join(entry)}")
        yield where, [value or "" for value in row.values()]


def _header(fields: Sequence[str]) -> dict[str, int] | None:
    """Return column -> place if a row is a header, else None."""
    names = [field.strip().lower() for field in fields]
    places = {
        column: names.index(name)
        for column, known in COLUMNS.items()
        for name in reversed(known)  # of two, the one named first counts
        if name in names
    }
    return places if {"file", "text"} <= places.keys() else None


def _table(root: Path, ledger: Ledger) -> Iterator[Raw]:
    """Read rows `file, text[, language[, speaker]]`, or columns that a header names."""
    path = table_in(root)
    if path is None:
        raise FileNotFoundError(f"{root}: holds no {' or '.join(TABLES)}")
    places: dict[str, int] = {}
    width = 0
    first: dict[str, str] = {}
    mistakes = tables.Mistakes()
    for where, fields in _rows(path, ledger):
        # The first row tells the columns.
        if not places:
            header = _header(fields)
            width = len(fields)
            places = header or {c: i for i, c in enumerate(COLUMNS) if i < min(width, _MOST)}
            if not header and not 2 <= width <= _MOST:
                raise ValueError(f"{where}: {_misfit(path, width)}")
            if header:
                continue
        with mistakes.collecting():
            if len(fields) != width:
                raise ValueError(f"{where}: {_misfit(path, len(fields), width)}")
            # Every file has one row, or one for each of its parts.
            row = {column: fields[place].strip() for column, place in places.items()}
            place = Path(_posix(row["file"]))
            if not place.name:
                raise ValueError(f"{where}: {row['file']!r} names no audio file")
            name = place.with_suffix("").as_posix()
            start, end = _part(row, where)
            if start:
                name += f"-{round(1000 * start):08d}"
            if name in first:
                raise ValueError(
                    f"{where}: {row['file']!r} is there already, at {first[name]}; one row per "
                    "audio file, or offset and duration in seconds for each of its parts"
                )
            first[name] = where
            audio, text = _locate(path.parent, row["file"], where, ledger), row["text"]
            if path.suffix.lower() == ".tsv" and len(text) > 1 and text[0] == text[-1] == '"':
                ledger.note(where, name, "text in quotes, which count as text in a TSV", text)
            speaker, language = row.get("speaker", ""), row.get("language", "")
            yield Raw(name, text, audio, where, speaker, language, start, end)
    mistakes.tell()


def _part(row: Mapping[str, str], where: str) -> tuple[float | None, float | None]:
    """Return where the part of a recording begins and ends, in seconds; None without an offset.

    A duration alone says how long the whole file is.
    """
    if not row.get("offset"):
        return None, None
    if not row.get("duration"):
        raise ValueError(f"{where}: offset {row['offset']} without a duration; give both")
    start, length = (_seconds(row[key], where) for key in ("offset", "duration"))
    return start, start + length


def _seconds(text: str, where: str) -> float:
    """Return a number of seconds, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"{where}: {text!r} is not a time in seconds")
    return value


def _misfit(path: Path, count: int, expected: int | None = None) -> str:
    """Return the error message for a row with a wrong number of fields."""
    columns = "2 to 4 (file, text[, language[, speaker]])"
    if expected:
        columns = f"{expected} as in the first row"
    remedy = "they are separated by one TAB each, not by blanks"
    if path.suffix.lower() == ".csv":
        remedy = "they are separated by commas, and a text with a comma stands in double quotes"
    return f"{count} fields, expected {columns}; {remedy}"


def _posix(text: str) -> str:
    """Return a path with slashes."""
    return PureWindowsPath(text).as_posix() if "\\" in text else text


def _locate(folder: Path, text: str, where: str, ledger: Ledger) -> Path:
    """Return the place of an audio file relative to `folder`; backslashes are tried as slashes.

    Raises:
        ValueError: The path has a drive, so it can only be right on another machine.
    """
    plain = folder / text
    if plain.is_file():
        return plain
    if re.match(r"^[A-Za-z]:[\\/]", text) or text.startswith("\\\\"):
        raise ValueError(
            f"{where}: {text!r} is a path of a Windows machine; write paths relative to {folder}, "
            "such as 'clips/one.wav'"
        )
    if "\\" in text and (folder / _posix(text)).is_file():
        ledger.note(where, text, "backslashes in a path taken for slashes")
        return folder / _posix(text)
    return plain


def _kaldi(root: Path, ledger: Ledger) -> Iterator[Raw]:
    """Read `wav.scp` and `text`, and `segments`, `utt2spk` and `utt2lang` if they are there."""
    # All files.
    if not (root / "text").is_file():
        raise FileNotFoundError(f"{root / 'text'}: no such file; wav.scp is there, its text is not")
    audio = {row.key: _place(root, row) for row in tables.keyed(root / "wav.scp")}
    speakers, languages = _optional(root / "utt2spk"), _optional(root / "utt2lang")
    cuts = dict(_segments(root / "segments", audio))
    texts = {row.key: row for row in tables.keyed(root / "text")}
    # Texts with audio.
    for name, row in texts.items():
        recording, start, end, _ = cuts.get(name, (name, None, None, None))
        if (cuts and name not in cuts) or recording not in audio:
            ledger.skip(
                row.where, name, "no audio", "not in segments" if cuts else "not in wav.scp"
            )
            continue
        speaker = speakers.get(name, "")
        yield Raw(
            name,
            row.value,
            audio[recording],
            row.where,
            "" if speaker == name else speaker,  # Kaldi's way of saying: not known
            languages.get(name, ""),
            start,
            end,
        )
    # Audio without text.
    for name in sorted((cuts or audio).keys() - texts.keys()):
        ledger.skip(str(root / ("segments" if cuts else "wav.scp")), name, "no transcript")


def _place(root: Path, row: tables.Keyed) -> Path:
    """Return the audio file of a line of `wav.scp`; ValueError for a command or an archive."""
    if row.value.endswith("|") or row.value.startswith("|"):
        raise ValueError(
            f"{row.where}: {row.key} is a command ({row.value!r}), and none is run here; write the "
            "audio to files and name them in wav.scp. ESPnet's scripts/audio/format_wav_scp.sh "
            "does that"
        )
    if is_archive_offset(row.value):
        raise ValueError(
            f"{row.where}: {row.key} lies in an archive ({row.value}); write the audio to files "
            "and name them in wav.scp"
        )
    if not row.value:
        raise ValueError(f"{row.where}: {row.key} names no audio file")
    beside = root / row.value
    # Kaldi's paths are relative to where its scripts run
    return beside if beside.is_file() or not Path(row.value).is_file() else Path(row.value)


def _optional(path: Path) -> dict[str, str]:
    """Read a file of keys and values, if it is there."""
    return {row.key: row.value for row in tables.keyed(path)} if path.is_file() else {}


def _segments(path: Path, audio: Mapping[str, Path]) -> Iterator[tuple[str, Segment]]:
    """Yield the utterances and lines of `segments`, if it is there."""
    if not path.is_file():
        return
    for row in tables.keyed(path):
        segment = parse_segment(*row, audio)
        if not 0 <= segment.start < segment.end:
            raise ValueError(f"{row.where}: {row.key} goes from {segment.start} to {segment.end} s")
        yield row.key, segment
