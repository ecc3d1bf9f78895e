"""Bangor Miami: informal Spanish-English conversations, the published test sets of switching.

Layout: `beta/<conversation>.cha` of the public repository, `audio/<conversation>.mp3` (or wav)
fetched beside it. The sets are those of Weller et al. 2022: an utterance counts if it has a
translation other than itself and lasts 0.3 s; it is code-switched if a word is marked as of the
other language (marks "either language" apart).

With `miami_mapping.csv` of that work the sets are exactly theirs. Without it the same rule is
applied here, and monolingual utterances are divided by conversation: of the names in order, the
first, third, ... go to `mono_test`, the others to `mono_train` (theirs are divided at random
by utterance, so speakers of one are in the other).

No set of theirs is switched speech to train on. `train` and `valid` are `mono_train` divided
by conversation: in the order of the SHA-256 of their names, `valid` takes whole conversations
until it holds a tenth of the utterances.

Whisper's prompt is the language of an utterance's unmarked words: `[- spa]` in it, else the
first that the file names. So one set holds `en` and `es`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from espnet_blora.data.corpora import asked, miami_chat
from espnet_blora.data.corpora.files import by_stem, found_of
from espnet_blora.data.corpora.languages import whisper_code
from espnet_blora.data.corpora.letters import speaker_name, utterance_id
from espnet_blora.data.corpora.tables import csv_rows
from espnet_blora.data.records import Corpus, Expected, Item, Ledger, Utterance

_SOURCE = "miami_mapping.csv of Weller et al. 2022, counted"
SETS = {
    "cs_test": Expected(3296, 2.82, _SOURCE),
    "mono_test": Expected(6490, 3.61, _SOURCE),
    "mono_train": Expected(6489, 3.60, _SOURCE),
    "train": Expected(),
    "valid": Expected(),
}
_VALID = 0.1  # of mono_train
_CONVERSATIONS = 56
_SHORTEST = 300  # ms
_OFF = 2  # ms between the published times and the transcript's
_COLUMNS = ("split", "file", "file_line_num", "offset", "duration", "cs_type")


class _Conversation(NamedTuple):
    name: str
    chat: miami_chat.Chat


class _Place(NamedTuple):
    """An utterance's line and the set it belongs to."""

    set: str
    line: miami_chat.Line
    conversation: _Conversation


def find(path: Path) -> Path:
    """Return the folder that holds `beta`, or the transcripts themselves."""
    hint = "clone github.com/donnekgit/miami and put the audio of bangortalk.org.uk into audio/"
    return asked.find_root(path, ["beta/*.cha", "*.cha"], ("", "miami", "data/miami"), hint)


def _transcripts(root: Path) -> dict[str, Path]:
    return by_stem([root / "beta", root], (".cha",))


def _recordings(root: Path) -> dict[str, Path]:
    folders = [root / "audio", root / "beta", root]
    if root.resolve().name == "beta":
        folders.append(root.resolve().parent / "audio")
    return by_stem(folders, (".wav", ".flac", ".mp3"))


def read(
    root: Path, names: Sequence[str], ledger: Ledger, options: Mapping[str, str]
) -> dict[str, list[Utterance]]:
    """Read the sets `names`, by conversation and line.

    Raises: FileNotFoundError; ValueError with file and line for a malformed transcript or table.
    """
    asked.check_sets("miami", names, SETS)
    recordings = _recordings(root)
    result: dict[str, list[Utterance]] = {name: [] for name in names}
    places = _places(root, ledger, options)
    held_out = _held_out(places) if {"train", "valid"} & result.keys() else frozenset()
    for place in places:
        name = place.conversation.name
        path = recordings.get(name, root / "audio" / f"{name}.mp3")
        wanted = [one for one in _sets_of(place, held_out) if one in result]
        if wanted and (utterance := _utterance(place, path, ledger)):
            for one in wanted:
                result[one].append(utterance)
    return result


def _sets_of(place: _Place, held_out: frozenset[str]) -> tuple[str, ...]:
    """The sets a place belongs to: those of `mono_train` are in `train` or `valid` too."""
    if place.set != "mono_train":
        return (place.set,)
    return place.set, "valid" if place.conversation.name in held_out else "train"


def _held_out(places: Iterable[_Place]) -> frozenset[str]:
    """The conversations of `valid`.

    Raises: ValueError if `mono_train` lies in fewer than two conversations.
    """
    sizes = Counter(p.conversation.name for p in places if p.set == "mono_train")
    if len(sizes) < 2:
        raise ValueError(
            f"miami: mono_train lies in {len(sizes)} conversation ({', '.join(sizes) or 'none'}), "
            "and train and valid need two at least; is the copy whole? See check_corpus"
        )
    order = sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest())
    chosen: set[str] = set()
    for name in order[:-1]:
        if sum(sizes[one] for one in chosen) >= _VALID * sizes.total():
            break
        chosen.add(name)
    return frozenset(chosen)


def _id(conversation: str, line: miami_chat.Line) -> tuple[str, str]:
    """Speaker and id: `herring1_ABC` and `herring1_ABC-p00012`, line 12 from 0."""
    speaker = speaker_name(conversation, line.speaker)
    return speaker, utterance_id(speaker, f"p{line.number:05d}")


def _utterance(place: _Place, audio: Path, ledger: Ledger) -> Utterance | None:
    line, (name, chat) = place.line, place.conversation
    speaker, key = _id(name, line)
    text = miami_chat.clean(line.raw)
    times = line.times
    if times is None:
        ledger.skip(line.where, key, "no time mark")
    elif not times[0] < times[1]:
        ledger.skip(line.where, key, "no time between start and end", f"{times} ms")
    elif not text:
        ledger.skip(line.where, key, "empty after cleaning", line.raw)
    else:
        if miami_chat.UNINTELLIGIBLE.search(line.raw):
            ledger.note(line.where, key, "unintelligible words left out", line.raw)
        code = whisper_code(miami_chat.language_of(line, chat))
        if code not in CORPUS.languages:
            ledger.note(line.where, key, "language is neither English nor Spanish: en", str(code))
            code = "en"
        start, end = times[0] / 1000, times[1] / 1000
        return Utterance(key, speaker, code, text, audio, start, end, where=line.where)
    return None


def _places(root: Path, ledger: Ledger, options: Mapping[str, str]) -> list[_Place]:
    conversations = {
        name: _Conversation(name, miami_chat.read(path))
        for name, path in sorted(_transcripts(root).items())
    }
    if "miami_mapping" in options:
        return _published(Path(options["miami_mapping"]), conversations, ledger)
    places = []
    for number, conversation in enumerate(conversations.values()):
        mono = "mono_train" if number % 2 else "mono_test"
        for line in conversation.chat.lines:
            if reason := _unfit(line):
                ledger.skip(line.where, _id(conversation.name, line)[1], reason)
            else:
                name = "cs_test" if miami_chat.is_switched(line.raw) else mono
                places.append(_Place(name, line, conversation))
    return places


def _unfit(line: miami_chat.Line) -> str:
    """Why an utterance is in no set, or ""."""
    if miami_chat.UNTRANSCRIBED.search(line.raw):
        return "untranscribed (www)"
    text = miami_chat.clean(line.raw)
    if not text:
        return "empty after cleaning"
    if line.times is None:
        return "no time mark"
    translation = miami_chat.clean(line.dependent.get("eng", ""))
    if not translation:
        return "no translation"
    if translation == text:
        return "translation is the transcript"
    if line.times[1] - line.times[0] < _SHORTEST:
        return "shorter than 0.3 s"
    return ""


def _published(
    path: Path, conversations: Mapping[str, _Conversation], ledger: Ledger
) -> list[_Place]:
    """The places of `miami_mapping.csv`, sorted by conversation and line."""
    places = []
    for where, row in csv_rows(path, _COLUMNS):
        name = _set_of(row, where)
        if name is None:
            continue
        start, end = _milliseconds(row, where)
        entry = f"{row['file']}_p{row['file_line_num']}"
        conversation = conversations.get(row["file"])
        if conversation is None:
            ledger.skip(where, entry, "no transcript", row["file"])
            continue
        line = _line_at(conversation.chat.lines, int(row["file_line_num"]), start, end)
        if line is None:
            ledger.skip(where, entry, "no such line in the transcript", f"{start}-{end} ms")
        else:
            places.append(_Place(name, line, conversation))
    return sorted(places, key=lambda place: (place.conversation.name, place.line.number))


def _set_of(row: Mapping[str, str], where: str) -> str | None:
    """The set of a row; None for utterances that the published sets leave out."""
    kinds = {
        ("test", "cs"): "cs_test",
        ("test", "mono"): "mono_test",
        ("train", "mono"): "mono_train",
        ("n/a", "n/a"): None,
    }
    kind = row["split"], row["cs_type"]
    if kind not in kinds:
        raise ValueError(
            f"{where}: split {kind[0]!r}, cs_type {kind[1]!r}; expected "
            + ", ".join("/".join(known) for known in kinds)
        )
    return kinds[kind]


def _milliseconds(row: Mapping[str, str], where: str) -> tuple[int, int]:
    number = re.compile(r"[0-9]{1,7}(\.[0-9]*)?(e-[0-9]+)?")
    if not (
        re.fullmatch("[0-9]{1,7}", row["file_line_num"])
        and number.fullmatch(row["offset"])
        and number.fullmatch(row["duration"])
    ):
        raise ValueError(
            f"{where}: line {row['file_line_num']!r}, offset {row['offset']!r}, duration "
            f"{row['duration']!r}; expected a number from 0 and two times in seconds"
        )
    start = float(row["offset"])
    return round(1000 * start), round(1000 * (start + float(row["duration"])))


def _line_at(
    chat: Sequence[miami_chat.Line], number: int, start: int, end: int
) -> miami_chat.Line | None:
    """The line of that number and those times, or the only one of those times."""

    def agrees(line: miami_chat.Line) -> bool:
        times = line.times
        return times is not None and max(abs(times[0] - start), abs(times[1] - end)) <= _OFF

    if number < len(chat) and agrees(chat[number]):
        return chat[number]
    others = [line for line in chat if agrees(line)]
    return others[0] if len(others) == 1 else None


def inspect(root: Path, options: Mapping[str, str]) -> list[Item]:
    """Conversations, recordings, and the size of each set."""
    transcripts, recordings = _transcripts(root), _recordings(root)
    both = len(transcripts.keys() & recordings.keys())
    items = [
        Item("conversations (.cha)", *found_of(len(transcripts), _CONVERSATIONS)),
        Item("recordings of them", *found_of(both, len(transcripts))),
    ]
    ledger = Ledger()
    places = _places(root, ledger, options)
    try:
        held_out = _held_out(places)
    except ValueError as error:
        items.append(Item("train and valid", "cannot be made", str(error), False))
        held_out = frozenset()
    counts = Counter(name for place in places for name in _sets_of(place, held_out))
    for name, size in SETS.items():
        sure = "miami_mapping" in options  # without it, close to the published sets, but not they
        items.append(
            Item(f"{name} utterances", *found_of(counts[name], size.utterances, sure=sure))
        )
    for reason, count in ledger.counts().items():
        items.append(Item(f"in no set: {reason}", f"{count:,}", "-", None))
    return items


CORPUS = Corpus(
    name="miami",
    title="Bangor Miami, Spanish-English conversations, Miami",
    variable="BANGOR_MIAMI",
    licence="GPL v3",
    obtain="https://github.com/donnekgit/miami and http://bangortalk.org.uk (audio)",
    sets=SETS,
    languages=("en", "es"),
    find=find,
    read=read,
    inspect=inspect,
    options={
        "miami_mapping": "miami_mapping.csv of github.com/apple/"
        "ml-code-switched-speech-translation: exactly the published sets",
    },
)
