"""Fisher Spanish (LDC2010S01, LDC2010T04): telephone calls, and the code-switched ones among them.

Sets of the translations (`train`, `dev`, `dev2`, `test`) and of the code-switching work
(`cs_train`, `cs_valid`, `cs_eval`, `mono_train`, `mono_train_lid`, `mono_eval`) are
lines of the same four mapping files. An utterance has the same id in all of them: speaker, part and
line, as `...-fisher_train-utt000123` for line 123 of `fisher_train`.

The tags tell which utterances switch, read as that work read them, and its random split is drawn
again with its seed. With `fisher_mapping.csv` this file decides, and is compared with the computed
split. Utterances that cannot be used are left out after the split, so they do not change it.

Audio (LDC2010S01) and transcripts (LDC2010T04) are two packages side by side. Other recipes need
both discs of the audio merged into `data/speech`; here they may also lie apart.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from espnet_blora.data.corpora import fisher_split, fisher_text
from espnet_blora.data.corpora.common import by_stem, compare_counts, speaker_name
from espnet_blora.data.corpora.fisher_split import EVALUATION, PARTS, Draw, Entry, Line
from espnet_blora.data.corpora.tables import lines
from espnet_blora.data.records import Corpus, Expected, Item, Ledger, Utterance

_SPEECH = "[Ll][Dd][Cc]2010[Ss]01*"
_TEXT = "[Ll][Dd][Cc]2010[Tt]04*"
_DEPTHS = ("", "*/", "*/*/")  # the package itself, fisher_spa_tr or DISC1, a disc in a folder
_SIDES = "AB"
_POST = "Post et al. 2013, mapping files"
_WELLER = "Weller et al. 2022"
SETS = {
    "cs_train": Expected(7398, None, _WELLER),
    "cs_valid": Expected(822, None, _WELLER),
    "cs_eval": Expected(986, None, _WELLER),
    "mono_train": Expected(130599, None, _WELLER),
    "mono_train_lid": Expected(7398, None, _WELLER),
    "mono_eval": Expected(10595, None, _WELLER),
    "train": Expected(138819, None, _POST),
    "dev": Expected(3979, None, _POST),
    "dev2": Expected(3961, None, _POST),
    "test": Expected(3641, None, _POST),
}
_DRAWN = ("cs_train", "cs_valid", "mono_train_lid")
_CALLS = 819
_SHOWN = 5


def _folders(root: Path, package: str, inside: str) -> list[Path]:
    """Return the folders `inside` a package, at any usual depth."""
    return [
        path
        for depth in _DEPTHS
        for path in sorted(root.glob(f"{package}/{depth}{inside}"))
        if path.is_dir()
    ]


def find(root: Path) -> Path:
    """Return the folder that holds LDC2010S01 and LDC2010T04: `root`, or its parent if it is one.

    Raises:
        FileNotFoundError: There is no copy; names the folders that were looked for.
    """
    for folder in (root, root.resolve().parent):
        if _folders(folder, _SPEECH, "data/speech") and _folders(folder, _TEXT, "data/transcripts"):
            return folder
    raise FileNotFoundError(
        f"{root}: no Fisher Spanish there; looked for LDC2010S01/data/speech (or "
        "LDC2010S01/DISC1/data/speech and so on) and LDC2010T04/data/transcripts (or "
        "LDC2010T04/fisher_spa_tr/data/transcripts). Give the folder that holds both packages"
    )


class Joined(NamedTuple):
    """An utterance of a mapping file: its segments as one.

    The channel (from 0) is the first segment's; times run from the first start to the last end,
    whatever lies between; `sides` is the number of the segments' channels.
    """

    channel: int
    start: float
    end: float
    texts: tuple[str, ...]
    where: str
    sides: int


class Calls:
    """All calls of a copy, by their stem (`20990101_000000_999_fsp`)."""

    def __init__(self, root: Path, ledger: Ledger):
        self._folders = _folders(root, _SPEECH, "data/speech")
        self.transcripts = by_stem(_folders(root, _TEXT, "data/transcripts"), (".tdf",))
        self.speech = by_stem(self._folders, (".sph", ".wav", ".flac"))
        tables = [
            path
            for package in (_TEXT, _SPEECH)
            for folder in (*_folders(root, package, "doc"), *_folders(root, package, "docs"))
            for path in sorted(folder.glob("*call.tbl"))
        ]
        self._pins = _read_pins(tables, ledger)
        self._read: tuple[Path, list[fisher_text.Segment | None]] | None = None

    def audio(self, call: str) -> Path:
        """Return the recording of a call, or its usual place if there is none."""
        return self.speech.get(call) or self._folders[0] / f"{call}.sph"

    def speaker(self, call: str, channel: int) -> str:
        """Return the PIN of the speaker on a side, or call and side if no call table has it."""
        number = _call_number(call)
        pin = self._pins.get((number, channel), "") if number is not None else ""
        side = _SIDES[channel] if channel < len(_SIDES) else str(channel)
        return speaker_name(pin) if pin else speaker_name(call, side)

    def join(self, line: Line) -> Joined | None:
        """Join the segments of a mapping line; None if the call has no transcript here.

        Raises:
            ValueError: The transcript does not have such a line; names file and line.
        """
        path = self.transcripts.get(line.call)
        if path is None:
            return None
        if self._read is None or self._read[0] != path:  # lines of a call stand together
            self._read = (path, fisher_text.read_tdf(path))
        data = self._read[1]
        # Find the segments by number.
        segments = []
        for number in line.numbers:
            segment = data[number - 1] if number <= len(data) else None
            if segment is None:
                what = "is blank" if number <= len(data) else f"is not there; it has {len(data)}"
                raise ValueError(
                    f"{line.where}: data line {number} of {path} {what}; are the transcripts "
                    "those of LDC2010T04, unchanged?"
                )
            segments.append(segment)
        first, last = segments[0], segments[-1]
        return Joined(
            first.channel,
            first.start,
            last.end,
            tuple(segment.transcript for segment in segments),
            first.where,
            len({segment.channel for segment in segments}),
        )


def _call_number(call: str) -> int | None:
    """Return 999 of `20990101_000000_999_fsp`."""
    parts = call.split("_")
    return int(parts[2]) if len(parts) > 2 and re.fullmatch(r"[0-9]{1,9}", parts[2]) else None


def _read_pins(tables: Iterable[Path], ledger: Ledger) -> dict[tuple[int, int], str]:
    """Return (call number, channel) -> PIN, from comma-separated lines below a header."""
    pins: dict[tuple[int, int], str] = {}
    for path in tables:
        rows = lines(path)
        next(rows, None)  # the header
        for where, line in rows:
            fields = [field.strip() for field in line.split(",")]
            if not any(fields):
                continue
            if len(fields) < 9 or not re.fullmatch(r"[0-9]{1,9}", fields[0]):
                ledger.note(where, fields[0], "line of the call table not understood")
                continue
            for channel, field in enumerate((fields[2], fields[8])):
                if field:
                    pins[int(fields[0]), channel] = field
    return pins


class _Read(NamedTuple):
    """One line of a mapping file with its part of the transcript, if that is there."""

    line: Line
    joined: Joined | None
    spans: list[str]


class _Place(NamedTuple):
    """A line of a part, from 0."""

    part: str
    line: int


def read(
    root: Path, names: Sequence[str], ledger: Ledger, options: Mapping[str, str]
) -> dict[str, list[Utterance]]:
    """Read the sets `names`, each in the order of the mapping files.

    Raises:
        FileNotFoundError: A mapping file is not there.
        ValueError: A mapping file or a transcript is malformed (names file and line), or a split
            must be drawn but transcripts of its calls are missing.
    """
    calls = Calls(root, ledger)
    parts, places = _select(root, names, calls, ledger, options)
    built: dict[_Place, Utterance | None] = {}
    result: dict[str, list[Utterance]] = {}
    for name in names:
        result[name] = []
        for place in places[name]:
            if place not in built:
                built[place] = _utterance(place, parts[place.part][place.line], calls, ledger)
            if (utterance := built[place]) is not None:
                result[name].append(utterance)
    return result


def _utterance(place: _Place, read: _Read, calls: Calls, ledger: Ledger) -> Utterance | None:
    """Return the utterance of a line, or None after telling the ledger why there is none."""
    line, joined = read.line, read.joined
    name = f"fisher_{place.part}-utt{place.line + 1:06d}"
    if joined is None:
        ledger.skip(line.where, name, "no transcript", line.call)
        return None
    raw = " ".join(joined.texts)
    text = fisher_text.clean(raw)
    if not joined.start < joined.end:
        times = f"{joined.start}-{joined.end} s"
        ledger.skip(joined.where, name, "no time between start and end", times)
    elif not text:
        ledger.skip(joined.where, name, "empty after cleaning", raw)
    else:
        # It can be used; oddities are noted.
        speaker = calls.speaker(line.call, joined.channel)
        key = f"{speaker}-{name}"
        if joined.sides > 1:
            ledger.note(joined.where, key, "segments of both channels joined", raw)
        if not read.spans and fisher_text.has_foreign_mark(raw):
            ledger.note(joined.where, key, "foreign tag empty or misspelt: monolingual", raw)
        return Utterance(
            key,
            speaker,
            "es",
            text,
            calls.audio(line.call),
            joined.start,
            joined.end,
            joined.channel,
            joined.where,
        )
    return None


def _select(
    root: Path,
    names: Collection[str],
    calls: Calls,
    ledger: Ledger,
    options: Mapping[str, str],
) -> tuple[dict[str, list[_Read]], dict[str, list[_Place]]]:
    """Read the parts that `names` need, and find each set's lines in them."""
    # The parts to read.
    drawn = any(name in _DRAWN for name in names)
    needed = set(PARTS) if drawn else set()  # a draw depends on all parts
    for name in names:
        needed |= {name} if name in PARTS else set(EVALUATION if "eval" in name else ("train",))
    folder = fisher_split.find_mapping(root, options.get("mapping_dir"))
    mapping = {p: fisher_split.read_mapping(folder, p) for p in PARTS if p in needed}
    published = None
    if "cs_mapping" in options:
        published = fisher_split.read_published(Path(options["cs_mapping"]), mapping)
    # Which lines switch?
    parts = {part: [_read_line(line, calls) for line in mapping[part]] for part in mapping}
    switched = {
        part: [
            published[part][i].switched if published else bool(read.spans)
            for i, read in enumerate(reads)
        ]
        for part, reads in parts.items()
    }

    def lines_of(which: Sequence[str], kind: bool) -> list[_Place]:
        return [_Place(p, i) for p in which for i, cs in enumerate(switched[p]) if cs == kind]

    # Sets that are settled by that.
    places: dict[str, list[_Place]] = {
        part: [_Place(part, i) for i in range(len(parts[part]))] for part in parts
    }
    if parts.keys() >= set(EVALUATION):
        places["cs_eval"] = lines_of(EVALUATION, True)
        places["mono_eval"] = lines_of(EVALUATION, False)
    if "train" in parts:
        places["mono_train"] = lines_of(["train"], False)
    # Sets that are drawn at random.
    if drawn:
        complete = _check_transcripts(parts, ledger, needed=published is None)
        draw = _draw(parts, switched["train"])
        train = lines_of(["train"], True)
        chosen = {train[i] for i in draw.validation if i < len(train)}
        if published:
            validation = {place for place in train if published["train"][place.line].validation}
            _compare_kinds(parts, published, ledger)
            if complete and validation != chosen:
                same = f"{len(validation & chosen)} of {len(validation)} lines are the same"
                what = "published validation set, used here, is not the drawn one"
                ledger.note(options["cs_mapping"], "cs_valid", what, same)
            chosen = validation
        places["cs_valid"] = [place for place in train if place in chosen]
        places["cs_train"] = [place for place in train if place not in chosen]
        mono = places["mono_train"]
        places["mono_train_lid"] = [mono[i] for i in draw.mono_sample if i < len(mono)]
    return parts, places


def _read_line(line: Line, calls: Calls) -> _Read:
    """Look a line of a mapping file up in its transcript."""
    joined = calls.join(line)
    spans = fisher_text.foreign_spans(" ".join(joined.texts)) if joined else []
    return _Read(line, joined, spans)


def _check_transcripts(
    parts: Mapping[str, Sequence[_Read]], ledger: Ledger, *, needed: bool
) -> bool:
    """Tell whether all calls have a transcript; without all of them the draw is another one."""
    missing = {read.line.call for reads in parts.values() for read in reads if read.joined is None}
    if not missing:
        return True
    shown = ", ".join(sorted(missing)[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
    if needed:
        raise ValueError(
            f"{len(missing)} calls of the mapping files have no transcript ({shown}), and the "
            "code-switching split is drawn from all of them; complete LDC2010T04/data/transcripts, "
            "or give the published split: cs_mapping=fisher_mapping.csv"
        )
    ledger.note("", "", "split not compared with the computed one: transcripts missing", shown)
    return False


def _draw(parts: Mapping[str, Sequence[_Read]], switched: Sequence[bool]) -> Draw:
    """Draw the random sets as the published split did.

    Args:
        parts: Part -> its lines.
        switched: Whether each line of train switches.
    """

    def ties(which: Sequence[str]) -> int:
        return sum(
            fisher_text.half_foreign(read.joined.texts, read.spans)
            for part in which
            for read in parts[part]
            if read.joined is not None and read.spans
        )

    count = sum(switched)
    return fisher_split.draw(count, len(switched) - count, ties(EVALUATION), ties(["train"]))


def _compare_kinds(
    parts: Mapping[str, Sequence[_Read]],
    published: Mapping[str, Mapping[int, Entry]],
    ledger: Ledger,
) -> None:
    """Note the lines whose tags differ from the published split."""
    for part, entries in published.items():
        for index, entry in sorted(entries.items()):
            read = parts[part][index]
            if read.joined is not None and entry.switched != bool(read.spans):
                kind = "cs" if entry.switched else "mono"
                name = f"fisher_{part}-utt{index + 1:06d}"
                ledger.note(entry.where, name, "published kind differs from the tags", kind)


def inspect(root: Path, options: Mapping[str, str]) -> list[Item]:
    """Count calls, recordings, and the lines of each set before anything is left out."""
    ledger = Ledger()
    calls = Calls(root, ledger)
    both = calls.transcripts.keys() & calls.speech.keys()
    items = [
        Item("transcripts (.tdf)", *compare_counts(len(calls.transcripts), _CALLS)),
        Item("recordings (.sph)", *compare_counts(len(calls.speech), _CALLS)),
        Item("calls with both", *compare_counts(len(both), _CALLS)),
    ]
    try:
        _, places = _select(root, list(SETS), calls, ledger, options)
    except (FileNotFoundError, ValueError) as error:
        return [*items, Item("sets", f"cannot be made: {error}", "mapping files", False)]
    for name, size in SETS.items():
        sure = name in PARTS  # the others depend on tags as other people's tools read them
        counts = compare_counts(len(places[name]), size.utterances, sure=sure)
        items.append(Item(f"{name} lines", *counts))
    for what, count in ledger.note_counts().items():
        items.append(Item(what, f"{count:,}", "-", None))
    return items


CORPUS = Corpus(
    name="fisher",
    title="Fisher Spanish (LDC2010S01, LDC2010T04), Spanish-English telephone calls, United States",
    variable="FISHER_CALLHOME_SPANISH",
    licence="LDC user agreements",
    obtain="https://catalog.ldc.upenn.edu/LDC2010S01 and LDC2010T04",
    sets=SETS,
    languages=("es",),
    find=find,
    read=read,
    inspect=inspect,
    options={
        "mapping_dir": "clone of github.com/joshua-decoder/fisher-callhome-corpus, or its mapping/",
        "cs_mapping": "fisher_mapping.csv of github.com/apple/ml-code-switched-speech-translation: "
        "the published code-switching split instead of the computed one",
    },
)
