"""Segmentation: tokens into words, words into segments, and a segment's text into lines.

Subtitles have at most two lines of 42 characters, of which a Han, Kana or other wide one takes two
places; they change where somebody pauses or a sentence ends.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from espnet_blora.decoding.confidence import WordConfidence
from espnet_blora.decoding.timing import WordTime
from espnet_blora.decoding.transcript import Segment, Word
from espnet_blora.decoding.words import Split, word_spans
from espnet_blora.whisper.vocabulary import Vocabulary

WIDTH, LINES = 42, 2
PAUSE = 0.5
"""Seconds between words that end a segment."""

_SENTENCE_END = re.compile(r"[.?!。？！｡؟।…][\"'”’»)\]]*\s*$")
_CLAUSE_END = re.compile(r"[,;:，、；：،؛—–]\s*$")
_OPENING, _CLOSING = ("Ps", "Pi"), ("Pe", "Pf", "Po")


def width(text: str) -> int:
    """Places that a text takes in a line: 2 for a wide character, 0 for a combining one."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def _wide(char: str) -> bool:
    """Whether a line may be broken beside a character: Han and Kana, not Hangul."""
    hangul = unicodedata.name(char, "").startswith("HANGUL")
    return unicodedata.east_asian_width(char) in "WF" and not hangul


def _units(text: str) -> Iterator[str]:
    """What a line break may not divide, with the blank before it: words, wide characters."""
    unit = ""
    for before, char in pairwise(f" {text}"):
        wide = _wide(before) or _wide(char)
        tied = unicodedata.category(before) in _OPENING or unicodedata.category(char) in _CLOSING
        if unit.strip() and (char.isspace() or (wide and not tied)):
            yield unit
            unit = ""
        unit += char
    if unit:
        yield unit


def lines(text: str) -> list[str]:
    """A text in as few lines as `WIDTH` places allow; two lines are about as long as each other.

    What has no place to break, such as a long address, stays whole.
    """
    units = list(_units(" ".join(text.split())))
    broken: list[str] = []
    for unit in units:
        if broken and width(broken[-1] + unit) <= WIDTH:
            broken[-1] += unit
        else:
            broken.append(unit.strip())
    if len(broken) != 2:
        return broken
    # two lines are as even as they can be; the shorter one stands above
    splits = [("".join(units[:k]), "".join(units[k:]).strip()) for k in range(1, len(units))]
    upper, lower = min(splits, key=lambda pair: (max(map(width, pair)), width(pair[0])))
    return [upper, lower]


def fits(text: str) -> bool:
    """Tell whether a text can be shown as one subtitle."""
    return len(lines(text)) <= LINES


def into_segments(words: Sequence[Word]) -> list[list[Word]]:
    """Words into segments: at pauses, ends of sentences, and where two lines are full.

    A full segment is cut in its second half, behind a comma if there is one, else at the longest
    pause.
    """
    segments: list[list[Word]] = []
    for number, word in enumerate(words):
        before = words[number - 1] if number else None
        if (
            before is None
            or _silence(before, word) > PAUSE
            or _SENTENCE_END.search(before.word) is not None
        ):
            segments.append([])
        elif not fits("".join(w.word for w in [*segments[-1], word])):
            full = segments[-1]
            at = _best_cut([*full, word])
            segments[-1:] = [full[:at], full[at:]] if at < len(full) else [full, []]
        segments[-1].append(word)
    return segments


def _silence(word: Word, following: Word) -> float:
    """Return the seconds between two words that have times."""
    return (following.start or 0.0) - (word.end or 0.0)


def _best_cut(words: Sequence[Word]) -> int:
    """How many words stay, of those that are one too many."""
    places = range(max(1, len(words) // 2), len(words))
    return max(
        places,
        key=lambda k: (
            _CLAUSE_END.search(words[k - 1].word) is not None,
            _silence(words[k - 1], words[k]),
            k,
        ),
    )


def with_punctuation(split: Split) -> Split:
    """Make a split that leaves punctuation at its neighbour: "(" at what follows, "," before it."""

    def divided(text: str) -> list[str]:
        spans: list[tuple[int, int]] = []
        end, waiting = 0, None  # where punctuation began that waits for the next word
        for token in split(text):
            begin = text.index(token, end)
            end = begin + len(token)
            if any(char.isalnum() for char in token):
                spans.append((begin if waiting is None else waiting, end))
                waiting = None
            elif spans and waiting is None and unicodedata.category(token[0]) not in _OPENING:
                spans[-1] = spans[-1][0], end
            elif waiting is None:
                waiting = begin
        if waiting is not None:
            spans[-1:] = [(spans[-1][0] if spans else waiting, end)]
        return [text[begin:end] for begin, end in spans]

    return divided


def spoken_words(
    text: str,
    times: Sequence[WordTime] | None,
    confidences: Sequence[WordConfidence] | None,
    begin: float = 0.0,
) -> list[Word]:
    """Return the words of a piece with all that is known of them, each with the blank before it.

    Args:
        text: Of the piece (NFC).
        times: Of its words, in seconds from the piece's beginning; or None.
        confidences: Of the same words; or None.
        begin: Of the piece, in seconds.
    """
    words, end = [], 0
    texts = [t.word for t in times] if times is not None else [c.word for c in confidences or ()]
    for number, word_text in enumerate(texts):
        at = text.index(word_text, end)
        word = Word(" " * (at > end) + word_text)
        end = at + len(word_text)
        if times is not None:
            time = times[number]
            start, stop = begin + time.start, begin + time.end
            word = replace(word, start=start, end=stop, probability=time.probability)
        if confidences is not None:
            word = replace(word, confidence=confidences[number].confidence)
        words.append(word)
    return words


def divided(
    whole: Segment, words: Sequence[Word], vocabulary: Vocabulary, split: Split
) -> list[Segment]:
    """Cut a piece's segment where its words (with times) say; tokens go where their word begins."""
    if not words:
        return [replace(whole, words=())]
    firsts = [first for _, first, _ in word_spans(vocabulary, whole.tokens, split)]
    groups = into_segments(words)
    # the first token of each segment
    counts = accumulate((len(group) for group in groups[:-1]), initial=0)
    places = [firsts[count] for count in counts]
    bounds = [0, *places[1:], len(whole.tokens)]
    return [
        replace(
            whole,
            start=group[0].start or 0.0,
            end=group[-1].end or 0.0,
            text="".join(word.word for word in group),
            tokens=whole.tokens[first:last],
            words=tuple(group),
        )
        for group, (first, last) in zip(groups, pairwise(bounds), strict=True)
    ]
