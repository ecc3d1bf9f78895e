"""CHAT transcripts as the Bangor corpora write them: utterances, their times, and their words.

A file has headers (`@...`), main lines (`*ABC:` TAB words), lines that belong to the main line
before them (`%eng:`, a translation), and continuations, which begin with a TAB. The time of an
utterance stands at its end between two bytes 0x15, in milliseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from espnet_blora.data.corpora.letters import single_blanks
from espnet_blora.data.corpora.tables import lines

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
        """Start and end in milliseconds: of several marks the first start and the last end."""
        marks = _TIME.findall(self.raw)
        return (int(marks[0][0]), int(marks[-1][1])) if marks else None


@dataclass
class Chat:
    """One conversation."""

    languages: list[str]  # ISO 639-3; the first is that of words without a mark
    lines: list[Line]


def read(path: Path) -> Chat:
    """Read a file.

    Raises: FileNotFoundError; ValueError naming file and line for what is none of the four kinds
    of lines, a dependent or continued line with nothing before it, or no `@Languages`.
    """
    languages: list[str] = []
    result: list[Line] = []
    blocks: list[tuple[str, str]] = []  # where, text with its continuations
    for number, line in lines(path):
        where = f"{path}:{number}"
        if line[:1] in ("\t", " ") and line.strip():
            if not blocks:
                raise ValueError(f"{where}: continues a line, but there is none before it")
            blocks[-1] = (blocks[-1][0], f"{blocks[-1][1]} {line.strip()}")
        elif line.strip():
            blocks.append((where, line))
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
    return Chat(languages, result)


def language_of(line: Line, chat: Chat) -> str:
    """ISO 639-3 of the words without a mark: `[- spa]` in the line, else the file's first."""
    precode = _PRECODE.search(line.raw)
    return precode[1] if precode else chat.languages[0]


def marked_words(raw: str) -> list[tuple[str, str]]:
    """Words marked as of another language, with the mark: `que@s:spa` gives ("que", "spa")."""
    return [(word.lstrip('<"“['), mark) for word, mark in _MARKED.findall(_REMARK.sub(" ", raw))]


def is_switched(raw: str) -> bool:
    """Whether any word is marked as of another language, `eng&spa` (either of them) apart.

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
    text = _TIME.sub(" ", raw).replace("\x15", " ")
    text = _PAUSE.sub(" ", _REMARK.sub(" ", text))
    text = _LINK.sub(lambda link: " ?" if "?" in link[0] else " ", text)
    text = _SUFFIX.sub("", text).translate(_QUOTES)
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
