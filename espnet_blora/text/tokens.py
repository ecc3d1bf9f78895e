"""Tokens for scoring: Han and Kana by character, every other script by word.

The rules, in full:

1. The text is brought to NFC first, so that a letter and its accent are one character.
2. White space separates. So does every Han or Kana character: each is one token, together with the
   marks that stand on it (voiced sound marks, variation selectors).
3. What lies between two such separators is one token: a *word*. `我的iphone手机` is therefore
   `我 的 iphone 手 机`, and `3点` is `3 点`.
4. A word that mixes other scripts ("AI-модель", "wifi-का") is never cut: nothing in it marks the
   place. For rates by script it counts under the script of most of its letters; of two equally
   frequent scripts, under the one that comes first; a word without letters ("42") under `Common`.
5. Nothing is dropped: punctuation that no normalisation has removed stays in its word, or, between
   two Han characters, is a token of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache, lru_cache

from espnet_blora.text.scripts import (
    COMMON,
    HAN,
    HIRAGANA,
    INHERITED,
    KATAKANA,
    character_class,
    script_of,
)

_ASCII_LETTER = re.compile("[A-Za-z]")


def mixed_tokens(text: str) -> list[str]:
    """Split a text into the tokens of the mixed error rate (rules: this module's docstring).

    `" ".join(mixed_tokens(text))` gives the same tokens again.
    """
    if text.isascii():
        return text.split()
    return _token_pattern().findall(unicodedata.normalize("NFC", text))


@cache
def _token_pattern() -> re.Pattern[str]:
    """Rules 2 and 3 as one pattern, from the scripts of all characters."""
    alone = character_class(HAN, HIRAGANA, KATAKANA)
    marks = character_class(INHERITED)
    return re.compile(f"[{alone}][{marks}]*|[^{alone}\\s]+")


def words(text: str) -> list[str]:
    """Split a text (NFC) at white space only: the tokens of the plain word error rate."""
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).split()


def characters(text: str) -> list[str]:
    """Return the characters (NFC code points) of a text without its white space: the character
    error rate.

    ESPnet's own CER counts `<space>` as one more character; ours does not, so the two differ.
    """
    return list("".join(unicodedata.normalize("NFC", text).split()))


@lru_cache(maxsize=65536)
def script_of_token(token: str) -> str:
    """Return the script a token counts under (rule 4 of this module's docstring)."""
    if token.isascii():
        return "Latin" if _ASCII_LETTER.search(token) else COMMON
    if len(token) == 1:
        script = script_of(token)
        return COMMON if script == INHERITED else script
    counts = Counter(s for s in map(script_of, token) if s not in (COMMON, INHERITED))
    # most_common keeps the order of first appearance among equals
    return counts.most_common(1)[0][0] if counts else COMMON
