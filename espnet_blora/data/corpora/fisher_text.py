"""Fisher Spanish transcripts: their file format, their words, and switches of language.

LDC's TDF files hold one segment per line, fields with TABs between them. The first line declares
the fields, lines with `;;MM` are comments. Other corpora point at *data* lines by number: from 1,
without the declaration and the comments and with everything else. So no line is ever dropped or
moved here, not even an empty one.

Marks in the transcripts are read in two ways. `foreign_spans` reads them as the published
code-switching split did (Weller et al. 2022: an HTML parser, after repairs of single tags), so that
the same utterances switch; `clean` reads them as a person would, so that no tag becomes a word.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

from espnet_blora.data.corpora.common import number_from_0
from espnet_blora.data.corpora.tables import lines

FIELDS = (
    "file channel start end speaker speakerType speakerDialect transcript section turn segment "
    "sectionType suType"
).split()
LEAST = 11  # the last two are mostly empty, and some tools strip them
_DECLARES = "file;unicode"
_COMMENT = ";;MM"
# Remarks stand in braces or square brackets. Signs mark uncertain, mispronounced or invented words:
# the sign is removed, the word stays.
_REMARKS = re.compile(r"\{[^{}]*\}|\[[^\[\]]*\]")
_SIGNS = re.compile(r"[()+*/#{}\[\]]")
_TAG = re.compile(r"<[^<>]*>")
# A tag that lost a sign: foreing, lang+"English", /foreign>, <foreign lang="English" without >,
# langengullís. What follows such a tag is a word again.
_FOREIGN = "for(?:eign|eing|egin|iegn|ein|ign)"
_NAMES = rf"(?:{_FOREIGN}|lname|laugh|cough|sneeze|breath|lipsmack|background)"
_LANGUAGE = r"lang?(?:engull?[íi]s\b|\s*[+=]\s*(?:\"[^\"<>]*\"|\w*))"
_BROKEN = re.compile(
    rf"<\s*/?\s*{_NAMES}\b(?:\s*{_LANGUAGE})?\s*/?"
    rf"|(?<![\w<])/\s*{_NAMES}\s*>"
    rf"|\b{_LANGUAGE}\s*>?",
    re.IGNORECASE,
)
_FOREIGN_MARK = re.compile(rf"<\s*/?\s*{_FOREIGN}\b|\b{_LANGUAGE}", re.IGNORECASE)
_LEFT_OVER = re.compile(r"[<>]")
_STRAY_BLANK = re.compile(r"\s+([.,?!:;])(?=\s|$)")
_REPAIRS = (
    (" /foreign>", "</foreign>"),
    (
        '<foreign lang="English"> meeting <foreign lang="English">',
        '<foreign lang="English"> meeting </foreign>',
    ),
)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Segment(NamedTuple):
    """One data line: times in seconds, the channel counted from 0, the transcript as it is."""

    file: str
    channel: int
    start: float
    end: float
    speaker: str
    transcript: str
    where: str


def is_data(line: str) -> bool:
    """Tell whether a line counts: it is neither a comment nor the declaration of the fields."""
    return _COMMENT not in line and _DECLARES not in line


def parse_segment(line: str, where: str) -> Segment:
    """Read one data line.

    Raises:
        ValueError: There are too few or too many fields, the channel is not 0, 1, ..., or a time is
            not a number from 0 on; the message begins with `where`. An end before the start is not
            an error.
    """
    fields = line.split("\t")
    if not LEAST <= len(fields) <= len(FIELDS):
        raise ValueError(
            f"{where}: {len(fields)} fields, expected {len(FIELDS)} ({', '.join(FIELDS)}), or "
            f"{LEAST} where empty ones at the end were stripped; is the file damaged?"
        )
    file, channel, start, end, speaker, _, _, transcript = (field.strip() for field in fields[:8])
    if not (channel.isascii() and channel.isdigit() and len(channel) < 4):
        raise ValueError(f"{where}: channel {channel!r}; expected 0 or 1")
    first, last = (number_from_0(time, f"{where}: time") for time in (start, end))
    return Segment(file, int(channel), first, last, speaker, transcript, where)


def read_tdf(path: Path) -> list[Segment | None]:
    """Read a transcript: data line `n` is at index `n - 1`, None where it is blank.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: A line is malformed; names file and line.
    """
    return [
        parse_segment(line, where) if line.strip() else None
        for where, line in lines(path)
        if is_data(line)
    ]


def clean(transcript: str) -> str:
    """Return the words of a transcript: without tags, but with the words inside them.

    >>> clean('vamos al <foreign lang="English"> mall </foreign> (( no sé )) <breath/>')
    'vamos al mall no sé'

    `<foreign lang="English"> mall </foreign>` gives "mall", `(( no sé ))` "no sé", `<laugh>
    ajá </laugh>` "ajá", `<breath/>`, `{...}`, `[...]` and `()` nothing. Case, accents, ñ
    and punctuation stay as they are.
    """
    text = _TAG.sub(" ", transcript)
    text = _LEFT_OVER.sub(" ", _BROKEN.sub(" ", text))
    text = _SIGNS.sub(" ", _REMARKS.sub(" ", text))
    text = _STRAY_BLANK.sub(r"\1", " ".join(text.split()))
    return text if any(char.isalnum() for char in text) else ""


class _Foreign(HTMLParser):
    """Collects the text inside each `foreign` element, as a tree builder sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, int | None]] = []  # name, index in spans
        self.spans: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        number = None
        if tag == "foreign":
            number = len(self.spans)
            self.spans.append("")
        self.open.append((tag, number))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an empty element."""
        if tag == "foreign":
            self.spans.append("")

    def handle_endtag(self, tag: str) -> None:
        """Close the last element of that name and all that were opened since, if there is one."""
        names = [name for name, _ in self.open]
        if tag in names:
            del self.open[len(names) - 1 - names[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        """Add text to all open `foreign` elements."""
        for _, number in self.open:
            if number is not None:
                self.spans[number] += data


def foreign_spans(transcript: str) -> list[str]:
    """Return the texts of `<foreign>` spans, in any language, that are not empty and not `(())`.

    Any span makes an utterance code-switched. As in the published split, tags that its parser could
    not read (`<foreing ...>`) do not count, and an unclosed span reaches to the end.
    """
    if "<foreign" not in transcript:
        return []
    # "<!" and "<?" mean nothing in speech, but the parser fails on half a declaration
    text = transcript.strip().replace("<!", "< !").replace("<?", "< ?")
    for wrong, right in _REPAIRS:
        text = text.replace(wrong, right)
    parser = _Foreign()
    parser.feed(text)
    parser.close()
    return [span.strip() for span in parser.spans if span.strip() not in ("", "(())")]


def has_foreign_mark(transcript: str) -> bool:
    """Tell whether there is any `foreign` tag, of any spelling and content."""
    return _FOREIGN_MARK.search(transcript) is not None


def half_foreign(segments: Sequence[str], spans: Sequence[str]) -> bool:
    """Tell whether exactly half of an utterance's words are foreign, as the published split counts.

    That split drew a random number for each such utterance (to label its main language) between its
    seed and its samples, so the number of them decides which utterances were sampled. Words are
    counted between single blanks, without ASCII punctuation, in the spans and in the `segments` of
    the utterance without marks.
    """
    whole = " ".join(_published_text(segment) for segment in segments)
    return 2 * _count(" ".join(spans)) == _count(whole)


def _published_text(transcript: str) -> str:
    """Return a segment's text as the translations have it: without signs, then without tags."""
    text = re.sub(r"[()+*/#]", "", transcript)
    text = re.sub(r"<[^>]*>|\{[^}]*\}|\[[^\]]*\]", "", text)
    return " ".join(text.split())


def _count(text: str) -> int:
    """Return the number of words between single blanks."""
    return len(text.strip().translate(_NO_PUNCTUATION).strip().split(" "))
