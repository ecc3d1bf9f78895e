"""SEAME (LDC2015S04): Mandarin-English conversations and interviews.

Read as ESPnet's recipe does: transcripts of phase II, the official split (`.seame_split`), text
cleaned of marks (`.seame_text`). The official split lists every training recording and every test
utterance; recordings in neither list are left out, and so are lines that are empty without their
tags (also with `noise=keep`) or at most 1 cs long, in all sets.

Differences from ESPnet's recipe: the validation draw does not depend on directory listings; a test
line is the nearest one within 3 cs at both ends, not the first one nearer than 3; the recording
whose letters LDC wrote in another order is kept; times are LDC's milliseconds, not rounded; more
marks are removed (`=`, `!`, `…`).

Copies differ in their folders: LDC's root, its `data`, or the two discs side by side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from espnet_blora.data.corpora import seame_split as official
from espnet_blora.data.corpora import tables
from espnet_blora.data.corpora.common import choice, compare_counts, header_lengths
from espnet_blora.data.corpora.seame_text import NOISE_STYLES, clean
from espnet_blora.data.records import Corpus, Expected, Item, Ledger, Utterance

STYLES = ("conversation", "interview")
PHASES = ("II", "I")
_PLACES = (
    ". data seame/data seame LDC2015S04/data LDC2015S04/seame/data LDC2015S04 "
    "seame_d1/data seame_d2/data seame_d1 seame_d2"
).split()
_AUDIO = (".flac", ".wav")
_FIELDS = {"I": 4, "II": 5}
_LANGUAGES = {"ZH": "zh", "CS": "zh", "EN": "en"}  # fourth field of phase II -> code of the prompt
_SOURCE = "README of the official split"
_SIZES = {
    "train": Expected(hours=96.6, source="ESPnet's split, quoted second hand"),
    "valid": Expected(hours=4.9, source="ESPnet's split, quoted second hand"),
    "devman": Expected(6531, 7.49, _SOURCE),
    "devsge": Expected(5321, 3.93, _SOURCE),
}
_TRAIN_RECORDINGS = 260


class Line(NamedTuple):
    """One transcribed stretch; times in milliseconds, `language` empty in phase I."""

    start: int
    end: int
    language: str
    text: str
    where: str


def style_folders(root: Path) -> dict[str, Path]:
    """Return style -> the folder of its `audio` and `transcript`, for those that are there."""
    folders: dict[str, Path] = {}
    for style in STYLES:
        for place in _PLACES:
            if (root / place / style / "audio").is_dir():
                folders.setdefault(style, root / place / style)
    return folders


def find(root: Path) -> Path:
    """Find the copy in the user's folder: LDC's root, its `data`, or both discs side by side.

    Raises:
        FileNotFoundError: There is no copy; lists what was looked for.
    """
    folders = style_folders(root)
    if len(folders) == len(STYLES):
        parents = {folder.parent for folder in folders.values()}
        return parents.pop() if len(parents) == 1 else root
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; SEAME's root (LDC2015S04) is expected")
    # Perhaps the user gave half of a copy, or a folder within a copy.
    half = [f"{style} is in {folder}" for style, folder in folders.items()]
    parents_above = (*root.absolute().parents,)[:3]
    above = next((up for up in parents_above if len(style_folders(up)) == len(STYLES)), None)
    raise FileNotFoundError(
        f"{root}: no copy of SEAME; looked for conversation/audio and interview/audio in "
        f"{', '.join(_PLACES)} below it"
        + (f"; only {half[0]}" if half else "")
        + (f"; give {above} instead" if above else "; give the folder that holds both")
    )


def _by_recording(files: Sequence[Path], what: str, ledger: Ledger) -> dict[str, Path]:
    """Return canonical name -> file; of two files of one recording the first by bytes is taken."""
    result: dict[str, Path] = {}
    for path in sorted(files, key=lambda p: str(p).encode()):
        name = official.canonical(path.stem)
        if name in result:
            ledger.skip(str(path), name, f"second {what} of a recording", str(result[name]))
            continue
        if name != path.stem.lower():
            ledger.note(str(path), name, "recording name with letters in another order")
        result[name] = path
    return result


def recordings(root: Path, ledger: Ledger) -> dict[str, Path]:
    """Return canonical name -> audio file, of both styles."""
    files = [
        path
        for folder in style_folders(root).values()
        for path in (folder / "audio").iterdir()
        if path.suffix.lower() in _AUDIO and path.name[0] != "."
    ]
    return _by_recording(files, "audio file", ledger)


def text_files(folder: Path, phase: str) -> list[Path]:
    """Return the transcripts of one style; some copies have no folders for the phases."""
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
    name, expected = fields[0].strip(), _FIELDS[phase]
    if len(fields) < expected:
        ledger.skip(where, name, "missing field", f"{len(fields)} fields, {expected} expected")
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
        if language not in _LANGUAGES:
            ledger.skip(where, name, "missing field", f"{fields[3]!r} is not EN, ZH or CS")
            return None
    elif fields[3].strip() in _LANGUAGES and len(fields) > expected:
        raise ValueError(f"{where}: a line of phase II (5 fields, with a language); use phase=II")
    if len(fields) > expected:
        ledger.note(where, name, "TAB inside the text")
    return name, Line(start, end, language, " ".join(fields[expected - 1 :]), where)


def read_lines(
    root: Path, phase: str, audio_files: Mapping[str, Path], ledger: Ledger
) -> tuple[dict[str, list[Line]], Counter[str]]:
    """Read all transcripts: recording -> its lines in the order of the file; lines without audio.

    Recordings without audio or without transcript, and lines without a text, are skipped and
    listed.

    Raises:
        FileNotFoundError: A folder or a transcript is not there.
        ValueError: A line is malformed; names file and line.
    """
    folders = style_folders(root).values()
    files = [path for folder in folders for path in text_files(folder, phase)]
    lines: dict[str, list[Line]] = {}
    missing: Counter[tuple[Path, str]] = Counter()
    foreign: Counter[tuple[Path, str]] = Counter()
    short = 0
    mistakes = tables.Mistakes()
    # A transcript may hold lines of another recording.
    for stem, path in _by_recording(files, "transcript", ledger).items():
        rows = []
        with mistakes.collecting():
            rows = list(tables.lines(path))
        for where, raw in rows:
            if not raw.strip():
                continue
            parsed = None
            with mistakes.collecting():
                parsed = _parse(where, raw, phase, ledger)
            if parsed is None:
                short += 1
                continue
            name = official.canonical(parsed[0])
            if name != stem and name not in audio_files:
                ledger.note(where, name, "line of another recording; the file's name counts", stem)
                name = stem
            foreign[path, name] += name != stem
            if name in audio_files:
                lines.setdefault(name, []).append(parsed[1])
            else:
                missing[path, name] += 1
    mistakes.tell()
    # Too many short lines mean the other phase.
    good = sum(map(len, lines.values())) + sum(missing.values())
    if short > good:
        raise ValueError(
            f"{root}: {short} of {short + good} transcript lines have fewer than {_FIELDS[phase]} "
            f"fields; is this phase {'I' if phase == 'II' else 'II'}? Choose with phase=I or II"
        )
    for (path, name), count in foreign.items():
        if count:
            what = "lines name another recording than their file, and are cut from that one"
            ledger.note(str(path), name, what, f"{count} lines")
    # What has no counterpart is listed once per recording.
    for (path, name), count in missing.items():
        ledger.skip(str(path), name, "no audio", f"{count} lines")
    for name in sorted(audio_files.keys() - lines.keys()):
        ledger.skip(str(audio_files[name]), name, "no transcript")
    absent: Counter[str] = Counter()
    for (_, name), count in missing.items():
        absent[name] += count
    return lines, absent


@dataclass(frozen=True)
class _Settings:
    split_dir: Path
    noise: str
    phase: str
    language: str
    valid: str
    reference: str

    @classmethod
    def of(cls, options: Mapping[str, str]) -> _Settings:
        """Read the user's options; ValueError for a wrong one."""
        phase = choice(options, "phase", PHASES)
        language = choice(options, "language", ("zh", "by_line"))
        if phase == "I" and language == "by_line":
            raise ValueError("language=by_line: lines of phase I carry no language; use phase=II")
        return cls(
            split_dir=Path(options.get("split_dir", official.DEFAULT_DIR)),
            noise=choice(options, "noise", NOISE_STYLES),
            phase=phase,
            language=language,
            valid=options.get("valid", "5%"),
            reference=choice(options, "reference", ("phase2", "split")),
        )


def _spans(lines: Mapping[str, Sequence[Line]]) -> dict[str, list[tuple[int, int]]]:
    """Return start and end of every line in centiseconds, for `match`."""
    return {
        name: [(official.centiseconds(x.start), official.centiseconds(x.end)) for x in some]
        for name, some in lines.items()
    }


class _Maker:
    """Turns lines into utterances, listing those that give none."""

    def __init__(self, settings: _Settings, audio_files: Mapping[str, Path], ledger: Ledger):
        self.settings, self.audio, self.ledger = settings, audio_files, ledger
        self.seen: dict[str, str] = {}

    def make(self, recording: str, line: Line, listed: str | None) -> Utterance | None:
        """Return the utterance of a line, or None after telling the ledger why there is none.

        Args:
            recording: Its name.
            line: The line.
            listed: Text of the official split, to be used instead of the line's.
        """
        speaker = official.speaker_of(recording)
        start, end = official.centiseconds(line.start), official.centiseconds(line.end)
        id = f"{speaker}-{recording}-{start:06d}-{end:06d}"
        if end - start <= 1:
            self.ledger.skip(line.where, id, "shorter than 2 cs", f"{line.start}-{line.end} ms")
            return None
        # The text, without marks.
        raw = line.text if listed is None else listed
        text, notes = clean(raw, self.settings.noise)
        if not (clean(raw).text if self.settings.noise == "keep" else text):
            self.ledger.skip(line.where, id, "empty after cleaning", raw)
            return None
        # No id twice.
        if id in self.seen:
            self.ledger.skip(line.where, id, "same times as another line", self.seen[id])
            return None
        self.seen[id] = line.where
        for note in notes:
            self.ledger.note(line.where, id, note, raw)
        return Utterance(
            id=id,
            speaker=speaker,
            language=_LANGUAGES[line.language] if self.settings.language == "by_line" else "zh",
            text=text,
            audio=self.audio[recording],
            start=line.start / 1000,
            end=line.end / 1000,
            where=line.where,
        )


def read(
    root: Path, sets: Sequence[str], ledger: Ledger, options: Mapping[str, str]
) -> dict[str, list[Utterance]]:
    """Read `sets`, each sorted by utterance id `speaker-recording-start-end` (cs).

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: An option is wrong, or a line is malformed; names file and line.
    """
    settings = _Settings.of(options)
    # The official split, and all lines of the copy.
    split = official.read_split(official.fetch(settings.split_dir))
    audio_files = recordings(root, ledger)
    lines, absent = read_lines(root, settings.phase, audio_files, ledger)
    for name in sorted(lines.keys() - split.recordings()):
        where = lines[name][0].where.rpartition(":")[0]
        ledger.skip(where, name, "recording not in the split", f"{len(lines[name])} lines")
    maker = _Maker(settings, audio_files, ledger)
    spans = _spans(lines)
    # The test sets: the lines that match official utterances.
    utterances: dict[str, list[Utterance]] = {}
    tested: set[tuple[str, int]] = set()
    for name, test in split.tests.items():
        places, lost = official.match(test, spans)
        tested |= set(places.values())
        if name not in sets:
            continue
        ledger.missing[name] = sum(listed.recording not in lines for listed in lost)
        for listed in lost:
            ledger.skip(
                listed.where, listed.id, "no line within 3 cs of an official utterance", name
            )
        texts = {u.id: u.text for u in test} if settings.reference == "split" else {}
        made = (
            maker.make(recording, lines[recording][index], texts.get(id))
            for id, (recording, index) in places.items()
        )
        utterances[name] = [u for u in made if u is not None]
    # train and valid: the other lines of training recordings.
    if {"train", "valid"} & set(sets):
        ledger.missing["train"] = sum(absent[name] for name in split.train)
        rest = [
            maker.make(name, line, None)
            for name in sorted(split.train & lines.keys())
            for index, line in enumerate(lines[name])
            if (name, index) not in tested
        ]
        pool = {u.id: u for u in rest if u is not None}
        _note_shared_speakers(pool, split, settings, ledger)
        valid = official.draw_valid(pool, settings.valid)
        utterances["train"] = [u for id, u in pool.items() if id not in valid]
        utterances["valid"] = [u for id, u in pool.items() if id in valid]
    for name in sorted(split.train - lines.keys()):
        ledger.skip(str(settings.split_dir), name, "training recording without audio or transcript")
    return {name: sorted(utterances[name], key=lambda u: u.id) for name in sets}


def _note_shared_speakers(
    pool: Mapping[str, Utterance], split: official.Split, settings: _Settings, ledger: Ledger
) -> None:
    """Note speakers of a test set who are in training recordings; the official split has none."""
    speakers = {u.speaker for u in pool.values()}
    for name, test in split.tests.items():
        for speaker in sorted(speakers & {official.speaker_of(u.recording) for u in test}):
            where = str(settings.split_dir)
            ledger.note(where, speaker, "speaker of a test set is also in train", name)


def inspect(root: Path, options: Mapping[str, str]) -> list[Item]:
    """Count audio and transcripts, and how much of the official split they hold.

    The split is read if it is there; it is not cloned.
    """
    settings = _Settings.of(options)
    ledger = Ledger()
    audio_files = recordings(root, ledger)
    # Recordings and transcripts per style.
    items = [_seconds(audio_files)]
    for style, folder in style_folders(root).items():
        count = sum(folder in path.parents for path in audio_files.values())
        items.append(Item(f"{style}: recordings", str(count), "some", count > 0))
        for phase in PHASES:
            needed = phase == settings.phase
            try:
                count = len(text_files(folder, phase))
            except FileNotFoundError:
                count = 0
            what, expected = f"{style}: transcripts, phase {phase}", "some" if needed else ""
            items.append(Item(what, f"{count}", expected, count > 0 if needed else None))
    # How much of the official split there is.
    if not official.is_clone(settings.split_dir):
        command = official.clone_command(settings.split_dir)
        text = f"not at {settings.split_dir}; stage 1 runs (with a network): {command}"
        return [*items, Item("official split", text, "a clone", False)]
    split = official.read_split(settings.split_dir)
    lines, _ = read_lines(root, settings.phase, audio_files, ledger)
    there = len(split.train & lines.keys())
    items.append(Item("train: recordings", *compare_counts(there, _TRAIN_RECORDINGS)))
    spans = _spans(lines)
    for name, test in split.tests.items():
        places, _ = official.match(test, spans)
        size = _SIZES[name]
        items.append(
            Item(f"{name}: utterances found", *compare_counts(len(places), size.utterances))
        )
        hours = sum(spans[r][i][1] - spans[r][i][0] for r, i in places.values()) / 360_000
        close = size.hours is not None and abs(hours - size.hours) < 0.02
        items.append(Item(f"{name}: hours", f"{hours:.2f}", f"{size.hours}", close))
    for what, count in (ledger.counts() | ledger.note_counts()).items():
        items.append(Item(what, str(count), "", None))
    return items


def _seconds(audio_files: Mapping[str, Path]) -> Item:
    """Return the hours of audio from the files' headers."""
    lengths, bad = header_lengths(audio_files.values())
    hours = sum(lengths.values()) / 3600
    text = f"{hours:.1f}" + (f"; {len(bad)} unreadable: {bad[0]}" if bad else "")
    return Item("hours of audio", text, "about 192", False if bad else None)


CORPUS = Corpus(
    name="seame",
    title="SEAME (LDC2015S04), Mandarin-English, Singapore and Malaysia",
    variable="SEAME",
    licence="LDC user agreement",
    obtain="catalog.ldc.upenn.edu/LDC2015S04",
    sets=_SIZES,
    languages=("zh", "en"),
    options={
        "split_dir": "clone of SEAME-dev-set, made there if absent "
        f"(default: {official.DEFAULT_DIR})",
        "noise": "remove (default) noise and <unk>, or keep them as ESPnet does",
        "phase": "transcripts of phase II (default) or I",
        "language": "zh (default) for all, or by_line: the line's field EN, ZH or CS (zh)",
        "valid": "share or count of training utterances for validation (default: 5%; BLoRA: 3000)",
        "reference": "text of the test sets: phase2 (default, as ESPnet) or split",
    },
    find=find,
    read=read,
    inspect=inspect,
)
