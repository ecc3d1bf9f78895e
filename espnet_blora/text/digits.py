"""Digits: of any script to ASCII, or spelled out in one language by num2words (extra `digits`).

Spelling, in full:

1. A run of decimal digits of any script is one cardinal number, set off by blanks from what it
   touches: `mp3` is `mp three`, `3点` is `three 点`. The language is the one named,
   whatever stands around: nothing in mixed text tells in which language a number was said.
2. A run that begins with a zero, or has more than 12 digits, is read digit by digit.
3. Groups of three are one number where the language writes them so: `1,000` in English, `1.000`
   in German. Any other sign between digits, the decimal point included, separates: `3.5` is
   `three five`.
4. English ordinals are ordinals: `3rd` is `third`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache

from espnet_blora.utils.mistakes import did_you_mean

# Whisper's codes of the languages that num2words spells without an exception up to 10^12, and its
# own name for each.
_SAME_NAME = (
    "ar az be bn ca cs cy da de en es fa fi fr he hu id is it ja ko lt lv nl no pl pt ro ru sk sl"
    " sr sv tg th tr uk vi"
)
LANGUAGES = {code: code for code in _SAME_NAME.split()} | {"kk": "kz"}
_COMMA_GROUPS = frozenset("en he ja ko th".split())
_POINT_GROUPS = frozenset("da de es id it nl pt tr vi".split())
_LONGEST_NUMBER = 12


def ascii_digit(char: str) -> str:
    """Return the ASCII digit of a decimal digit (category Nd) of any script, else `char`."""
    value = unicodedata.decimal(char, None)
    return char if value is None else str(value)


def check_language(code: str) -> str:
    """Return the language code.

    Raises:
        ValueError: No number can be spelled in that language.
    """
    if code not in LANGUAGES:
        raise ValueError(
            f"spell_digits={code}: numbers cannot be spelled in {code!r}"
            f"{did_you_mean(code, LANGUAGES)} (there are: {', '.join(sorted(LANGUAGES))})"
        )
    return code


@cache
def speller(language: str) -> Callable[[str], str]:
    """Return the function that spells out a text's digits in a language (rules: this module's).

    Raises:
        ValueError: The language is unknown, or num2words is not installed.
    """
    name = LANGUAGES[check_language(language)]
    try:
        from num2words import num2words
    except ImportError as error:
        raise ValueError(
            "spelling digits out needs num2words, which is not installed: "
            "pip install 'espnet_blora[digits]' (or pip install num2words)"
        ) from error

    # one run of digits
    @lru_cache(maxsize=4096)
    def spelled(run: str, kind: str = "cardinal") -> str:
        if len(run) > _LONGEST_NUMBER or (len(run) > 1 and unicodedata.decimal(run[0]) == 0):
            return " ".join(map(spelled, run))
        return unicodedata.normalize("NFC", num2words(int(run), lang=name, to=kind))

    # a whole text: groups of three are joined, ordinals and runs are set off by blanks
    def spell(text: str) -> str:
        if not _DIGIT.search(text):
            return text
        if grouped:
            text = grouped.sub(lambda match: match[0].replace(sign, ""), text)
        if language == "en":
            text = _ORDINAL.sub(lambda match: f" {spelled(match[1], 'ordinal')} ", text)
        return _RUN.sub(lambda match: f" {spelled(match[0])} ", text)

    sign = "," if language in _COMMA_GROUPS else "." if language in _POINT_GROUPS else ""
    grouped = sign and re.compile(rf"(?<![\d.,])\d{{1,3}}(?:\{sign}\d{{3}})+(?![\d])")
    return spell


_DIGIT = re.compile(r"\d")
_RUN = re.compile(r"\d+")
_ORDINAL = re.compile(rf"(?<!\d)([1-9]\d{{0,{_LONGEST_NUMBER - 1}}})(?:st|nd|rd|th)\b", re.I)
