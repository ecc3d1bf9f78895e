"""SEAME on disk: where audio and transcripts lie in the copies that are about, and their lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from espnet_blora.data.corpora import tables
from espnet_blora.data.corpora.seame_split import canonical
from espnet_blora.data.records import Ledger

STYLES = ("conversation", "interview")
PHASES = ("II", "I")
LANGUAGES = ("ZH", "CS", "EN")  # the fourth field of phase II
_PLACES = (
    ". data seame/data seame LDC2015S04/data LDC2015S04/seame/data LDC2015S04 "
    "seame_d1/data seame_d2/data seame_d1 seame_d2"
).split()
_AUDIO = (".flac", ".wav")
_FIELDS = {"I": 4, "II": 5}


class Line(NamedTuple):
    """One transcribed stretch; times in milliseconds, `language` empty in phase I."""

    start: int
    end: int
    language: str
    text: str
    where: str


def style_folder(root: Path, style: str) -> Path | None:
    """Return where a style's `audio` and `transcript` lie, or None."""
    for place in _PLACES:
        if (root / place / style / "audio").is_dir():
            return root / place / style
    return None


def find(root: Path) -> Path:
    """Find the copy in the user's folder: LDC's root, its `data`, or both discs side by side.

    Raises: FileNotFoundError listing what was looked for.
    """
    root = Path(root)
    folders = {style: style_folder(root, style) for style in STYLES}
    if all(folders.values()):
        parents = {folder.parent for folder in folders.values()}
        return parents.pop() if len(parents) == 1 else root
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; SEAME's root (LDC2015S04) is expected")
    got = [f"{style} is in {folder}" for style, folder in folders.items() if folder]
    above = next((up for up in (*root.absolute().parents,)[:3] if _all_styles(up)), None)
    raise FileNotFoundError(
        f"{root}: no copy of SEAME; looked for conversation/audio and interview/audio in "
        f"{', '.join(_PLACES)} below it"
        + (f"; only {got[0]}" if got else "")
        + (f"; give {above} instead" if above else "; give the folder that holds both")
    )


def _all_styles(root: Path) -> bool:
    return all(style_folder(root, style) for style in STYLES)


def _by_recording(files: Sequence[Path], what: str, ledger: Ledger) -> dict[str, Path]:
    """Canonical name -> file; of two files of one recording the first by bytes is taken."""
    result: dict[str, Path] = {}
    for path in sorted(files, key=lambda p: str(p).encode()):
        name = canonical(path.stem)
        if name in result:
            ledger.skip(str(path), name, f"second {what} of a recording", str(result[name]))
            continue
        if name != path.stem.lower():
            ledger.note(str(path), name, "recording name with letters in another order")
        result[name] = path
    return result


def recordings(root: Path, ledger: Ledger) -> dict[str, Path]:
    """Canonical name -> audio file, of both styles."""
    files = [
        path
        for style in STYLES
        if (folder := style_folder(root, style))
        for path in (folder / "audio").iterdir()
        if path.suffix.lower() in _AUDIO and path.name[0] != "."
    ]
    return _by_recording(files, "audio file", ledger)


def text_files(folder: Path, phase: str) -> list[Path]:
    """Transcripts of one style; some copies have no level for the phase."""
    top = folder / "transcript"
    if not top.is_dir():
        raise FileNotFoundError(f"{top}: no such folder; SEAME's transcripts are expected there")
    below = {path.name.lower(): path for path in sorted(top.iterdir()) if path.is_dir()}
    named = below.get(f"phase{phase}".lower())
    files = [
        path
        for path in (named or top).iterdir()
        if path.suffix.lower() == ".txt" and path.name[0] != "." and path.is_file()
    ]
    if not files:
        other = "I" if phase == "II" else "II"
        there = f"phase{other}".lower() in below
        raise FileNotFoundError(
            f"{named or top}: no transcripts (*.txt) of phase {phase}"
            + (f"; phase {other} is there, and phase={other} reads it" if there else "")
        )
    return files


def _parse(where: str, raw: str, phase: str, ledger: Ledger) -> tuple[str, Line] | None:
    """Return (recording as the line names it, line), or None for a line without a transcript."""
    fields = raw.split("\t")
    name, wanted = fields[0].strip(), _FIELDS[phase]
    if len(fields) < wanted:
        ledger.skip(where, name, "missing field", f"{len(fields)} fields, {wanted} expected")
        return None
    try:
        start, end = int(fields[1]), int(fields[2])
    except ValueError as error:
        raise ValueError(
            f"{where}: times {fields[1]!r} and {fields[2]!r}; whole milliseconds are expected"
        ) from error
    language = ""
    if phase == "II":
        language = fields[3].strip().upper()
        if language not in LANGUAGES:
            ledger.skip(where, name, "missing field", f"{fields[3]!r} is not EN, ZH or CS")
            return None
    elif fields[3].strip() in LANGUAGES and len(fields) > wanted:
        raise ValueError(f"{where}: a line of phase II (5 fields, with a language); use phase=II")
    if len(fields) > wanted:
        ledger.note(where, name, "TAB inside the text")
    return name, Line(start, end, language, " ".join(fields[wanted - 1 :]), where)


def read_lines(
    root: Path, phase: str, audio_files: Mapping[str, Path], ledger: Ledger
) -> dict[str, list[Line]]:
    """Read all transcripts: recording -> its lines in the order of the file.

    A recording without audio or without transcript, and a line without a text, is skipped and
    listed.

    Raises: FileNotFoundError; ValueError naming file and line.
    """
    files = [path for s in STYLES for path in text_files(style_folder(root, s), phase)]
    lines: dict[str, list[Line]] = {}
    missing: Counter[str] = Counter()
    short = 0
    for stem, path in _by_recording(files, "transcript", ledger).items():
        for number, raw in tables.lines(path):
            if not raw.strip():
                continue
            where = f"{path}:{number}"
            parsed = _parse(where, raw, phase, ledger)
            if parsed is None:
                short += 1
                continue
            name = canonical(parsed[0])
            if name != stem and name not in audio_files:
                ledger.note(where, name, "line of another recording; the file's name counts", stem)
                name = stem
            if name in audio_files:
                lines.setdefault(name, []).append(parsed[1])
            else:
                missing[f"{path}\t{name}"] += 1
    good = sum(map(len, lines.values())) + sum(missing.values())
    if short > good:
        raise ValueError(
            f"{root}: {short} of {short + good} transcript lines have fewer than {_FIELDS[phase]} "
            f"fields; is this phase {'I' if phase == 'II' else 'II'}? Choose with phase=I or II"
        )
    for place, count in missing.items():
        path, _, name = place.partition("\t")
        ledger.skip(path, name, "no audio", f"{count} lines")
    for name in sorted(audio_files.keys() - lines.keys()):
        ledger.skip(str(audio_files[name]), name, "no transcript")
    return lines
