"""Removal of punctuation, character by character, and of apostrophes.

Punctuation and symbols (categories P and S) become blanks, except an apostrophe inside a word;
format signs (category Cf: soft hyphen, byte order mark, joiners) are deleted. Combining marks
(category M) stay, so no Indic or Arabic word is cut.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import pairwise

from espnet_blora.text.scripts import INHERITED, is_han_kana, script_of

# Signs written for an apostrophe; the last two are other code points of ` and of the acute.
APOSTROPHES = frozenset("'\u2018\u2019\u02bc\uff07\u0060\u00b4\u2032\u1fef\u1ffd")
# These two are taken apart into a blank and a combining mark by NFKC, so they go before it.
ACUTES = re.compile("[\u00b4\u1ffd]")
_ZERO_WIDTH_SPACE = (
    "\u200b"  # separates words in Thai, Khmer, ...: a blank, unlike the other format signs
)
_ASCII_APOSTROPHE = re.compile(r"(?<![A-Za-z])'|'(?![A-Za-z])")


def plain(char: str) -> str:
    """Return what takes a character's place: itself, a blank, nothing, or an apostrophe.

    Apostrophes are judged later, by `settle_apostrophes`.
    """
    if char in APOSTROPHES:
        return "'"
    category = unicodedata.category(char)
    if char == _ZERO_WIDTH_SPACE or category[0] in "PS":
        return " "
    return "" if category == "Cf" else char


def settle_apostrophes(text: str) -> str:
    """Blank each apostrophe that does not stand between two letters or marks of one word.

    Han and Kana, with the marks on them, are tokens of their own, not part of a word.
    """
    if "'" not in text:
        return text
    if text.isascii():
        return _ASCII_APOSTROPHE.sub(" ", text)
    pieces = text.split("'")
    out = [pieces[0]]
    for before, after in pairwise(pieces):
        inside = _in_word(reversed(before)) and _in_word(after)
        out += ["'" if inside else " ", after]
    return "".join(out)


def _in_word(outwards: Iterable[str]) -> bool:
    """Tell whether what stands beside an apostrophe, read away from it, is of its word."""
    first = True
    for char in outwards:
        if first and unicodedata.category(char)[0] not in "LM":
            return False
        first = False
        if script_of(char) != INHERITED:
            return not is_han_kana(char)
    return not first
