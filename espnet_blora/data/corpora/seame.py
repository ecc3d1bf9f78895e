"""SEAME (LDC2015S04): Mandarin-English conversations and interviews.

Read as ESPnet's recipe does: transcripts of phase II, the official split (`.seame_split`),
text cleaned of marks (`.seame_text`). The official list names every training recording; what
is in neither list is left out, and so are lines that are empty without their tags (also with
`noise=keep`) or at most 1 cs long, in all sets.

Differences from ESPnet's recipe: the validation draw does not depend on directory listings; a test
line is the nearest one within 3 cs at both ends, not the first one nearer than 3; the recording
whose letters LDC wrote in another order is kept; times are LDC's milliseconds, not rounded; more
marks are removed (`=`, `!`, `…`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_blora.data import audio
from espnet_blora.data.corpora import asked, files
from espnet_blora.data.corpora import seame_split as official
from espnet_blora.data.corpora.seame_text import NOISE_STYLES, clean
from espnet_blora.data.corpora.seame_tree import (
    PHASES,
    STYLES,
    Line,
    find,
    read_lines,
    recordings,
    style_folder,
    text_files,
)
from espnet_blora.data.records import Corpus, Expected, Item, Ledger, Utterance

_LANGUAGES = {"ZH": "zh", "CS": "zh", "EN": "en"}  # the line's field -> the prompt's code
_SOURCE = "README of the official split"
_SIZES = {
    "train": Expected(hours=96.6, source="ESPnet's split, quoted second hand"),
    "valid": Expected(hours=4.9, source="ESPnet's split, quoted second hand"),
    "devman": Expected(6531, 7.49, _SOURCE),
    "devsge": Expected(5321, 3.93, _SOURCE),
}
_TRAIN_RECORDINGS = 260


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
        phase = files.choice(options, "phase", PHASES)
        language = files.choice(options, "language", ("zh", "by_line"))
        if phase == "I" and language == "by_line":
            raise ValueError("language=by_line: lines of phase I carry no language; use phase=II")
        return cls(
            split_dir=Path(options.get("split_dir", official.DEFAULT_DIR)),
            noise=files.choice(options, "noise", NOISE_STYLES),
            phase=phase,
            language=language,
            valid=options.get("valid", "5%"),
            reference=files.choice(options, "reference", ("phase2", "split")),
        )


def _spans(lines: Mapping[str, Sequence[Line]]) -> dict[str, list[tuple[int, int]]]:
    """Start and end of every line in centiseconds, for `match`."""
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
        speaker = official.speaker_of(recording)
        start, end = official.centiseconds(line.start), official.centiseconds(line.end)
        id = f"{speaker}-{recording}-{start:06d}-{end:06d}"
        if end - start <= 1:
            self.ledger.skip(line.where, id, "shorter than 2 cs", f"{line.start}-{line.end} ms")
            return None
        raw = line.text if listed is None else listed
        text, notes = clean(raw, self.settings.noise)
        if not (clean(raw).text if self.settings.noise == "keep" else text):
            self.ledger.skip(line.where, id, "empty after cleaning", raw)
            return None
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
    """Read the sets asked for, each sorted by utterance id `speaker-recording-start-end` (cs).

    Raises: FileNotFoundError; ValueError for a bad option, or naming file and line.
    """
    asked.check_sets("seame", sets, _SIZES)
    settings = _Settings.of(options)
    split = official.read_split(official.fetch(settings.split_dir))
    audio_files = recordings(root, ledger)
    lines = read_lines(root, settings.phase, audio_files, ledger)
    for name in sorted(lines.keys() - split.recordings()):
        where = lines[name][0].where.rpartition(":")[0]
        ledger.skip(where, name, "recording not in the split", f"{len(lines[name])} lines")
    maker = _Maker(settings, audio_files, ledger)
    spans = _spans(lines)
    made: dict[str, list[Utterance]] = {}
    tested: set[tuple[str, int]] = set()
    for name, test in split.tests.items():
        found, lost = official.match(test, spans)
        tested |= set(found.values())
        if name not in sets:
            continue
        for one in lost:
            ledger.skip(one.where, one.id, "no line within 3 cs of an official utterance", name)
        texts = {u.id: u.text for u in test} if settings.reference == "split" else {}
        utterances = [
            maker.make(place[0], lines[place[0]][place[1]], texts.get(id))
            for id, place in found.items()
        ]
        made[name] = [u for u in utterances if u is not None]
    if {"train", "valid"} & set(sets):
        rest = [
            maker.make(name, line, None)
            for name in sorted(split.train & lines.keys())
            for index, line in enumerate(lines[name])
            if (name, index) not in tested
        ]
        pool = {u.id: u for u in rest if u is not None}
        _note_shared_speakers(pool, split, settings, ledger)
        valid = official.draw_valid(pool, settings.valid)
        made["train"] = [u for id, u in pool.items() if id not in valid]
        made["valid"] = [u for id, u in pool.items() if id in valid]
    for name in sorted(split.train - lines.keys()):
        ledger.skip(str(settings.split_dir), name, "training recording without audio or transcript")
    return {name: sorted(made[name], key=lambda u: u.id) for name in sets}


def _note_shared_speakers(
    pool: Mapping[str, Utterance], split: official.Split, settings: _Settings, ledger: Ledger
) -> None:
    """List speakers of a test set among the training recordings; the official list has none."""
    speakers = {u.speaker for u in pool.values()}
    for name, test in split.tests.items():
        for speaker in sorted(speakers & {official.speaker_of(u.recording) for u in test}):
            where = str(settings.split_dir)
            ledger.note(where, speaker, "speaker of a test set is also in train", name)


def inspect(root: Path, options: Mapping[str, str]) -> list[Item]:
    """Count audio and transcripts, and how much of the official split they hold.

    The split is looked at if it is there, and not cloned.
    """
    settings = _Settings.of(options)
    ledger = Ledger()
    audio_files = recordings(root, ledger)
    items = [_seconds(audio_files)]
    for style in STYLES:
        folder = style_folder(root, style)
        count = sum(folder in path.parents for path in audio_files.values())
        items.append(Item(f"{style}: recordings", str(count), "some", count > 0))
        for phase in PHASES:
            needed = phase == settings.phase
            try:
                count = len(text_files(folder, phase))
            except FileNotFoundError:
                count = 0
            found, wanted = f"{count}", "some" if needed else ""
            what = f"{style}: transcripts, phase {phase}"
            items.append(Item(what, found, wanted, count > 0 if needed else None))
    if not official.is_clone(settings.split_dir):
        command = official.clone_command(settings.split_dir)
        found = f"not at {settings.split_dir}; stage 1 runs: {command}"
        return [*items, Item("official split", found, "a clone", None)]
    split = official.read_split(settings.split_dir)
    lines = read_lines(root, settings.phase, audio_files, ledger)
    there = len(split.train & lines.keys())
    text = f"{_TRAIN_RECORDINGS}"
    items.append(Item("train: recordings", str(there), text, there == _TRAIN_RECORDINGS))
    spans = _spans(lines)
    for name, test in split.tests.items():
        found, _ = official.match(test, spans)
        size, hours = _SIZES[name].utterances, _SIZES[name].hours
        got, expected, ok = files.found_of(len(found), size)
        items.append(Item(f"{name}: utterances found", got, expected, ok))
        seconds = sum(spans[r][i][1] - spans[r][i][0] for r, i in found.values()) / 100
        close = abs(seconds / 3600 - hours) < 0.02
        items.append(Item(f"{name}: hours", f"{seconds / 3600:.2f}", f"{hours}", close))
    for what, count in (ledger.counts() | ledger.note_counts()).items():
        items.append(Item(what, str(count), "", None))
    return items


def _seconds(audio_files: Mapping[str, Path]) -> Item:
    """Hours of audio from the files' headers."""
    seconds, bad = 0.0, []
    for path in audio_files.values():
        try:
            seconds += audio.duration(path)
        except ValueError as error:
            bad.append(str(error))
    found = f"{seconds / 3600:.1f}" + (f"; {len(bad)} unreadable: {bad[0]}" if bad else "")
    return Item("hours of audio", found, "about 192", False if bad else None)


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
