"""The six-field TAB format of the BLoRA authors' own programs, to and from data directories.

A line holds `uid, wav path, start, end, duration in ms, transcript` with TABs between (their files
end in `.stm`; it is not NIST's). Negative start and end say that the file is the utterance. Their
training reader skips lines with fewer than six fields, a path without `/`, a duration outside 500
to 20,000 ms, or an empty text; their decoding does not look at the duration. Source: the programs
of github.com/enesyugan/continual-asr. They do not say the unit of start and end, so the importer
finds it by comparison with the duration.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from espnet_blora.data import audio, kaldi
from espnet_blora.data.corpora import tables
from espnet_blora.data.records import Ledger
from espnet_blora.utils import atomic
from espnet_blora.utils.keyed import c_sorted, read_keyed

MIN_MS, MAX_MS = 500, 20_000
_FIELDS = 6


@dataclass(frozen=True)
class _Line:
    """One line that can be used."""

    path: str
    start: float  # seconds; negative: the whole file
    end: float
    text: str


def export_lines(directory: str | Path, ledger: Ledger, training: bool = False) -> Iterator[str]:
    """Yield the lines of a data directory, without line ends, sorted by utterance.

    Paths become absolute. A TAB within a text becomes a blank. Lines that the authors' training
    reader would skip are noted in `ledger`, and left out with `training`.

    Raises:
        ValueError: The directory has segments, or wav.scp holds a pipe or a place in an archive.
    """
    directory = Path(directory)
    # Only plain files, one per utterance, can be written in this format.
    if (directory / "segments").exists():
        raise ValueError(
            f"{directory}: has segments, and the format's unit of start and end is not known; "
            "prepare the data with one file per utterance (prepare_corpus custom)"
        )
    wav, text = read_keyed(directory / "wav.scp"), read_keyed(directory / "text")
    if len(wav) != len(text) or wav.keys() != text.keys():
        raise ValueError(
            f"{directory}: wav.scp and text differ in {kaldi.name_some(wav.keys() ^ text.keys())}; "
            "see validate_data"
        )
    for key, place in wav.items():
        if place.endswith("|") or audio.is_archive_offset(place) or "\t" in place:
            raise ValueError(f"{directory}/wav.scp: {key!r} is not a file: {place!r}")
    seconds = kaldi.durations(directory)
    if missing := wav.keys() - seconds.keys():
        raise ValueError(f"{directory}/utt2dur: no {kaldi.name_some(missing)}")
    # One line per utterance, in order of id.
    for key in c_sorted(wav):
        milliseconds = round(1000 * seconds[key])
        words = text[key].replace("\t", " ")
        reason = _refused_in_training(milliseconds, words)
        if reason and training:
            ledger.skip(str(directory), key, reason, f"{milliseconds} ms")
            continue
        if reason:
            ledger.note(str(directory), key, reason, "their training reader skips it")
        yield f"{key}\t{os.path.abspath(wav[key])}\t-1\t-1\t{milliseconds}\t{words}"


def _refused_in_training(milliseconds: float, text: str) -> str:
    """Return why the authors' training reader would skip a line, or ""."""
    if milliseconds < MIN_MS:
        return f"shorter than {MIN_MS} ms"
    if milliseconds > MAX_MS:
        return f"longer than {MAX_MS} ms"
    return "" if text.strip() else "empty text"


def export_directory(
    directory: str | Path, path: str | Path, ledger: Ledger, training: bool = False
) -> int:
    """Write a data directory as one file; return the number of its lines.

    Raises:
        ValueError: As in `export_lines`.
        OSError: The file cannot be written.
    """
    lines = list(export_lines(directory, ledger, training))
    atomic.write(path, "".join(line + "\n" for line in lines))
    return len(lines)


def import_file(
    path: str | Path,
    directory: str | Path,
    language: str,
    ledger: Ledger,
    training: bool = False,
) -> int:
    """Write the utterances of a file as a data directory; return their number.

    The format has neither languages nor speakers: all utterances get Whisper's code `language`;
    the speaker is the part of a uid before its first `-`, or the uid itself where that would break
    Kaldi's order. Lines that cannot be used, and with `training` those that the authors' reader
    would skip, go to `ledger`. Audio is neither opened nor copied. Lines with times of their own
    make `segments`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Bytes are not UTF-8, a uid occurs twice, or times fit the duration neither in
            seconds nor in milliseconds (names file and line); no line can be used; or some lines
            have times and others stand for whole files.
    """
    # Read the lines that can be used; a uid may occur once.
    used: dict[str, _Line] = {}
    first: dict[str, str] = {}
    for where, raw in tables.lines(path):
        parsed = _parse(raw, where, ledger, training)
        if parsed is None:
            continue
        key, line = parsed
        if key in used:
            raise ValueError(f"{where}: uid {key!r} occurs twice, first at {first[key]}")
        used[key], first[key] = line, where
    if not used:
        counts = (
            ", ".join(f"{n} {reason}" for reason, n in ledger.counts().items()) or "it is empty"
        )
        raise ValueError(f"{path}: no line can be used ({counts})")
    _write(directory, used, language)
    return len(used)


def _parse(raw: str, where: str, ledger: Ledger, training: bool) -> tuple[str, _Line] | None:
    """Return uid and line, or None after telling the ledger why the line cannot be used."""
    fields = raw.split("\t", _FIELDS - 1)
    key = fields[0]
    if len(fields) < _FIELDS:
        ledger.skip(where, key, "fewer than 6 fields", f"{len(fields)}")
        return None
    # The fields that are text.
    place, text = fields[1].strip(" "), " ".join(fields[5].split())
    if not key or any(c.isspace() or ord(c) < 32 or c == "\ufeff" for c in key):
        ledger.skip(where, key, "uid is empty or holds blanks", repr(key))
        return None
    if "/" not in place or place.endswith("|"):
        ledger.skip(where, key, "path without '/'", place)
        return None
    if any(c.isspace() for c in place):
        ledger.skip(where, key, "path holds a blank", place)
        return None
    if not text:
        ledger.skip(where, key, "empty text")
        return None
    # The fields that are numbers.
    try:
        start, end, milliseconds = (float(field) for field in fields[2:5])
    except ValueError:
        start = end = milliseconds = math.nan
    if not all(map(math.isfinite, (start, end, milliseconds))):
        ledger.skip(where, key, "start, end or duration is not a number", " ".join(fields[2:5]))
        return None
    if training and (reason := _refused_in_training(milliseconds, text)):
        ledger.skip(where, key, reason, f"{milliseconds:g} ms")
        return None
    if start < 0 or end < 0:
        return key, _Line(place, -1.0, -1.0, text)
    unit = _unit(start, end, milliseconds, where, key)
    return key, _Line(place, start * unit, end * unit, text)


def _unit(start: float, end: float, milliseconds: float, where: str, key: str) -> float:
    """Return the seconds per unit of start and end that make their span the duration, to 10 ms."""
    for unit in (1.0, 0.001):
        if end > start and abs((end - start) * unit * 1000 - milliseconds) <= 10:
            return unit
    raise ValueError(
        f"{where}: {key!r} lasts {milliseconds:g} ms but its times are {start:g} to {end:g}; these "
        "are expected to agree in seconds or in milliseconds, or to be negative (the whole file)"
    )


def _write(directory: str | Path, used: Mapping[str, _Line], language: str) -> None:
    """Write the lines as a data directory."""
    # Speakers are taken from the uids, if that keeps Kaldi's order.
    speakers = {key: key.partition("-")[0] for key in used}
    one_each = any("-" not in key or not speaker for key, speaker in speakers.items())
    if one_each or kaldi.misplaced_speaker(speakers):
        speakers = {key: key for key in used}
    files = {
        "text": {key: line.text for key, line in used.items()},
        "utt2spk": speakers,
        "utt2lang": dict.fromkeys(used, language),
        "wav.scp": {key: line.path for key, line in used.items()},
    }
    # Lines with times become segments of recordings.
    if any(line.start >= 0 for line in used.values()):
        if whole := [key for key, line in used.items() if line.start < 0]:
            raise ValueError(
                f"{kaldi.name_some(whole)}: whole files (negative times), while other lines have "
                "times; import the two kinds from two files"
            )
        names: dict[str, str] = {}  # a recording is named after its first utterance
        files["segments"] = {}
        for key in c_sorted(used):
            line = used[key]
            name = names.setdefault(line.path, key)
            files["segments"][key] = f"{name} {line.start:.4f} {line.end:.4f}"
        files["wav.scp"] = {name: place for place, name in names.items()}
    kaldi.write(directory, files)
