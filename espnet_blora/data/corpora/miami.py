"""Bangor Miami: informal Spanish-English conversations with published code-switching test sets.

Layout: `beta/<conversation>.cha` of the public repository, `audio/<conversation>.mp3` (or wav)
fetched beside it. The sets are those of Weller et al. 2022: an utterance counts if it has a
translation other than itself and lasts 0.3 s; it is code-switched if a word is marked as of the
other language (marks "either language" apart).

With `miami_mapping.csv` of that work the sets are exactly theirs. Without it the same rule is
applied here, and monolingual utterances are divided by conversation: of the names in order, the
first, third, ... go to `mono_test`, the others to `mono_train` (theirs are divided at random
by utterance, so speakers of one are in the other).

None of these sets is switched speech to train on. `train` and `valid` are `mono_train` divided by
conversation: in the order of the SHA-256 of their names, `valid` takes whole conversations until it
holds a tenth of the utterances.

Whisper's prompt is the language of an utterance's unmarked words: `[- spa]` in it, else the first
that the file names. So one set holds `en` and `es`.

Transcripts are CHAT as the Bangor corpora write it. A file has headers (`@...`), main lines
(`*ABC:` TAB words), lines that belong to the main line before them (`%eng:`, a translation), and
continuations, which begin with a TAB. The time of an utterance stands at its end between two bytes
0x15, in milliseconds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from espnet_blora.data.corpora.common import (
    by_stem,
    compare_counts,
    find_root,
    hash_order,
    single_blanks,
    speaker_name,
    utterance_id,
    whisper_code,
)
from espnet_blora.data.corpora.tables import csv_rows, lines
from espnet_blora.data.records import Corpus, Expected, Item, Ledger, Utterance

_TIME = re.compile('\x15(?:%snd:"[^"]*"_)?([0-9]{1,9})_([0-9]{1,9})\x15?')
_HEAD = re.compile(r"([@*%][^\s:]+):?\s*(.*)", re.DOTALL)
_PRECODE = re.compile(r"\[-\s*(\w{3})\]")
_REMARK = re.compile(r"\[[^\[\]]*\]")
_PAUSE = re.compile(r"\((?:\.{1,3}|\d+(?:[.:]\d*)*)\)")
# '+...', '+//.', '+/?', '+".', '+..?' end an utterance; '++', '+"', '+,', '+^', '+<' begin one
_LINK = re.compile(r"(?<!\S)\+\S*")
_MARKED = re.compile(r"([^\s@]+)@s:?([\w&+:]*)")
_SUFFIX = re.compile(r"@\S*?(?=[\s,.?!>\"”]|$)")
_STRAY_BLANK = re.compile(r"\s+([.,?!;])(?=[\s.,?!;]|$)")
_QUOTES = str.maketrans(dict.fromkeys('"“”«»<>‹›[]^', " ") | {"„": ",", "‡": ","})
UNINTELLIGIBLE = re.compile(r"(?<![\w@])(?:xxx?|yyy?)(?!\w)", re.IGNORECASE)
UNTRANSCRIBED = re.compile(r"(?<![\w@])www(?!\w)")
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


@dataclass
class Line:
    """One main line: its number among the file's main lines (from 0), and what belongs to it."""

    number: int
    speaker: str
    raw: str
    where: str
    dependent: dict[str, str] = field(default_factory=dict)  # "eng" -> text

    @property
    def times(self) -> tuple[int, int] | None:
        r"""Return start and end in milliseconds: of several marks the first start and the last end.

        >>> Line(0, "ABC", "hola \x151200_1950\x15", "a.cha:7").times
        (1200, 1950)
        """
        marks = _TIME.findall(self.raw)
        return (int(marks[0][0]), int(marks[-1][1])) if marks else None


@dataclass
class Chat:
    """One conversation; it is named after its file."""

    name: str
    languages: list[str]  # ISO 639-3; the first is that of words without a mark
    lines: list[Line]


def read_chat(path: Path) -> Chat:
    """Read a file.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: A line is none of the four kinds, or it depends on or continues a line that is
            not there, or the file has no `@Languages`; names file and line.
    """
    # Join continued lines.
    languages: list[str] = []
    result: list[Line] = []
    blocks: list[tuple[str, str]] = []  # where, text with its continuations
    for where, line in lines(path):
        if line[:1] in ("\t", " ") and line.strip():
            if not blocks:
                raise ValueError(f"{where}: continues a line, but there is none before it")
            blocks[-1] = (blocks[-1][0], f"{blocks[-1][1]} {line.strip()}")
        elif line.strip():
            blocks.append((where, line))
    # Take the headers and lines that matter.
    for where, block in blocks:
        head = _HEAD.fullmatch(block)
        if head is None:
            raise ValueError(
                f"{where}: {block[:60]!r}; expected a line that begins with @, *SPEAKER:, %code: "
                "or a TAB"
            )
        name, text = head[1], head[2].strip()
        if name == "@Languages":
            languages = [code for code in re.split(r"[,\s]+", text) if code]
        elif name[0] == "*":
            result.append(Line(len(result), name[1:], text, where))
        elif name[0] == "%":
            if not result:
                raise ValueError(f"{where}: {name} belongs to an utterance, but none precedes it")
            result[-1].dependent.setdefault(name[1:], text)
    if not languages:
        raise ValueError(f"{path}:1: no @Languages line; expected e.g. '@Languages: eng, spa'")
    return Chat(path.stem, languages, result)


def language_of(line: Line, chat: Chat) -> str:
    """Return ISO 639-3 of the words without a mark: the line's `[- spa]`, else the file's first."""
    precode = _PRECODE.search(line.raw)
    return precode[1] if precode else chat.languages[0]


def marked_words(raw: str) -> list[tuple[str, str]]:
    """Return words marked as of another language, with the mark.

    >>> marked_words("so que@s:spa tal@s:spa [*]")
    [('que', 'spa'), ('tal', 'spa')]
    """
    return [(word.lstrip('<"“['), mark) for word, mark in _MARKED.findall(_REMARK.sub(" ", raw))]


def is_switched(raw: str) -> bool:
    """Tell whether any word is marked as of another language, `eng&spa` (either of them) apart.

    A word made of both (`@s:spa+eng`) counts.
    """
    return any("&" not in mark for _, mark in marked_words(raw))


def clean(raw: str) -> str:
    """Return the words that were spoken.

    Kept: retraced and repeated words (`[/]`, `[//]`), fillers (`&-um`), punctuation.
    Completed: `(es)tá` becomes "está", as it is written. Left out: fragments (`&th`), events
    (`&=laughs`), words not spoken (`0word`), pauses, `xxx`, all `[...]`, marks of language,
    quotation marks, and the signs of broken-off utterances. `o_k` becomes "ok", any other `_` a
    blank.
    """
    # Marks that hold blanks, or stand beside words.
    text = _TIME.sub(" ", raw).replace("\x15", " ")
    text = _PAUSE.sub(" ", _REMARK.sub(" ", text))
    text = _LINK.sub(lambda link: " ?" if "?" in link[0] else " ", text)
    text = _SUFFIX.sub("", text).translate(_QUOTES)
    # Marks within words.
    words = []
    for word in text.split():
        filler = word.startswith("&-")
        if (word[0] == "&" and not filler) or re.match(r"0\w", word):
            continue
        word = re.sub(r"[()]", "", word.removeprefix("&-"))
        word = re.sub(r"(?<=\w):+", "", word)  # lengthened sounds
        word = UNINTELLIGIBLE.sub("", word)
        if word:
            words.append(re.sub(r"(?<!\w)(o)_(k)(?!\w)", r"\1\2", word, flags=re.I))
    text = " ".join(words).replace("_", " ").replace("+", " ").replace(",,", ",")
    text = _STRAY_BLANK.sub(r"\1", single_blanks(text)).lstrip(" ,.;")
    return text if any(char.isalnum() for char in text) else ""


class _Place(NamedTuple):
    """An utterance's line and the set it belongs to."""

    set: str
    line: Line
    chat: Chat


def find(path: Path) -> Path:
    """Return the folder that holds `beta`, or the transcripts themselves."""
    hint = "clone github.com/donnekgit/miami and put the audio of bangortalk.org.uk into audio/"
    return find_root(path, ["beta/*.cha", "*.cha"], ("", "miami", "data/miami"), hint)


def _transcripts(root: Path) -> dict[str, Path]:
    """Return conversation -> transcript."""
    return by_stem([root / "beta", root], (".cha",))


def _recordings(root: Path) -> dict[str, Path]:
    """Return conversation -> recording."""
    folders = [root / "audio", root / "beta", root]
    if root.resolve().name == "beta":
        folders.append(root.resolve().parent / "audio")
    return by_stem(folders, (".wav", ".flac", ".mp3"))


def read(
    root: Path, names: Sequence[str], ledger: Ledger, options: Mapping[str, str]
) -> dict[str, list[Utterance]]:
    """Read the sets `names`, by conversation and line.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A transcript or the table is malformed; names file and line.
    """
    recordings = _recordings(root)
    result: dict[str, list[Utterance]] = {name: [] for name in names}
    places = _places(root, ledger, options)
    held_out = _held_out(places) if {"train", "valid"} & result.keys() else frozenset()
    for place in places:
        name = place.chat.name
        path = recordings.get(name, root / "audio" / f"{name}.mp3")
        sets = [set_ for set_ in _sets_of(place, held_out) if set_ in result]
        if sets and (utterance := _utterance(place, path, ledger)):
            for set_ in sets:
                result[set_].append(utterance)
    return result


def _sets_of(place: _Place, held_out: frozenset[str]) -> tuple[str, ...]:
    """Return the sets of a place: those of `mono_train` are in `train` or `valid` too."""
    if place.set != "mono_train":
        return (place.set,)
    return place.set, "valid" if place.chat.name in held_out else "train"


def _held_out(places: Iterable[_Place]) -> frozenset[str]:
    """Return the conversations of `valid`.

    Raises:
        ValueError: `mono_train` lies in fewer than two conversations.
    """
    sizes = Counter(p.chat.name for p in places if p.set == "mono_train")
    if len(sizes) < 2:
        raise ValueError(
            f"miami: mono_train lies in {len(sizes)} conversation ({', '.join(sizes) or 'none'}), "
            "and train and valid need two at least; is the copy whole? See check_corpus"
        )
    chosen: set[str] = set()
    for name in sorted(sizes, key=hash_order)[:-1]:
        if sum(sizes[other] for other in chosen) >= _VALID * sizes.total():
            break
        chosen.add(name)
    return frozenset(chosen)


def _id(conversation: str, line: Line) -> tuple[str, str]:
    """Return speaker and id: `herring1_ABC` and `herring1_ABC-p00012`, line 12 from 0."""
    speaker = speaker_name(conversation, line.speaker)
    return speaker, utterance_id(speaker, f"p{line.number:05d}")


def _utterance(place: _Place, audio: Path, ledger: Ledger) -> Utterance | None:
    """Return the utterance of a place, or None after telling the ledger why there is none."""
    line, chat = place.line, place.chat
    speaker, key = _id(chat.name, line)
    text = clean(line.raw)
    times = line.times
    if times is None:
        ledger.skip(line.where, key, "no time mark")
    elif not times[0] < times[1]:
        ledger.skip(line.where, key, "no time between start and end", f"{times} ms")
    elif not text:
        ledger.skip(line.where, key, "empty after cleaning", line.raw)
    else:
        if UNINTELLIGIBLE.search(line.raw):
            ledger.note(line.where, key, "unintelligible words left out", line.raw)
        code = whisper_code(language_of(line, chat))
        if code not in CORPUS.languages:
            ledger.note(line.where, key, "language is neither English nor Spanish: en", str(code))
            code = "en"
        start, end = times[0] / 1000, times[1] / 1000
        return Utterance(key, speaker, code, text, audio, start, end, where=line.where)
    return None


def _places(root: Path, ledger: Ledger, options: Mapping[str, str]) -> list[_Place]:
    """Return all lines that are in a set, by the published table or by its rule."""
    chats = {name: read_chat(path) for name, path in sorted(_transcripts(root).items())}
    if "miami_mapping" in options:
        return _published(Path(options["miami_mapping"]), chats, ledger)
    places = []
    for number, chat in enumerate(chats.values()):
        mono = "mono_train" if number % 2 else "mono_test"
        for line in chat.lines:
            if reason := _unfit(line):
                ledger.skip(line.where, _id(chat.name, line)[1], reason)
            else:
                places.append(_Place("cs_test" if is_switched(line.raw) else mono, line, chat))
    return places


def _unfit(line: Line) -> str:
    """Return why an utterance is in no set, or ""."""
    if UNTRANSCRIBED.search(line.raw):
        return "untranscribed (www)"
    text = clean(line.raw)
    if not text:
        return "empty after cleaning"
    if line.times is None:
        return "no time mark"
    translation = clean(line.dependent.get("eng", ""))
    if not translation:
        return "no translation"
    if translation == text:
        return "translation is the transcript"
    if line.times[1] - line.times[0] < _SHORTEST:
        return "shorter than 0.3 s"
    return ""


def _published(path: Path, chats: Mapping[str, Chat], ledger: Ledger) -> list[_Place]:
    """Return the places of `miami_mapping.csv`, sorted by conversation and line."""
    places = []
    for where, row in csv_rows(path, _COLUMNS):
        name = _set_of(row, where)
        if name is None:
            continue
        start, end = _milliseconds(row, where)
        entry = f"{row['file']}_p{row['file_line_num']}"
        chat = chats.get(row["file"])
        if chat is None:
            ledger.skip(where, entry, "no transcript", row["file"])
            continue
        line = _line_at(chat.lines, int(row["file_line_num"]), start, end)
        if line is None:
            ledger.skip(where, entry, "no such line in the transcript", f"{start}-{end} ms")
        else:
            places.append(_Place(name, line, chat))
    return sorted(places, key=lambda place: (place.chat.name, place.line.number))


def _set_of(row: Mapping[str, str], where: str) -> str | None:
    """Return the set of a row; None for utterances that the published sets leave out."""
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
    """Return start and end of a row in milliseconds."""
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


def _line_at(chat: Sequence[Line], number: int, start: int, end: int) -> Line | None:
    """Return the line of that number and those times, or the only one of those times."""

    def agrees(line: Line) -> bool:
        times = line.times
        return times is not None and max(abs(times[0] - start), abs(times[1] - end)) <= _OFF

    if number < len(chat) and agrees(chat[number]):
        return chat[number]
    others = [line for line in chat if agrees(line)]
    return others[0] if len(others) == 1 else None


def inspect(root: Path, options: Mapping[str, str]) -> list[Item]:
    """Count conversations, recordings, and the utterances of each set."""
    transcripts, recordings = _transcripts(root), _recordings(root)
    both = len(transcripts.keys() & recordings.keys())
    items = [
        Item("conversations (.cha)", *compare_counts(len(transcripts), _CONVERSATIONS)),
        Item("recordings of them", *compare_counts(both, len(transcripts))),
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
            Item(f"{name} utterances", *compare_counts(counts[name], size.utterances, sure=sure))
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
