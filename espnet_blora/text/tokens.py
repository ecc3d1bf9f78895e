"""Tokens for scoring, Han and Kana by character and other scripts by word, and their blanks.

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
from functools import lru_cache

from espnet_blora.text.scripts import COMMON, INHERITED, is_han_kana, script_of

_ASCII_LETTER = re.compile("[A-Za-z]")
# Punctuation that Chinese and Japanese set without blanks.
_WIDE = frozenset("、。〃〈〉《》「」『』【】〔〕〖〗〝〞〟・，．：；？！（）［］｛｝～…—“”‘’")


def mixed_tokens(text: str) -> list[str]:
    """Split a text into the tokens of the mixed error rate (rules: this module's docstring).

    `" ".join(mixed_tokens(text))` gives the same tokens again.

    >>> mixed_tokens("我的iphone手机 is new")
    ['我', '的', 'iphone', '手', '机', 'is', 'new']
    """
    if text.isascii():
        return text.split()
    text = unicodedata.normalize("NFC", text)
    spaced = text.translate(_SPACED)
    if _SPACED.marks and not _SPACED.marks.isdisjoint(text):
        return _tokens_with_marks(text)
    return spaced.split()


class _Spaced(dict[int, str]):
    """What rules 2 and 3 write for each code point, found out when it is first met.

    Attributes:
        marks: The marks met so far that stand on what is before them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.marks: set[str] = set()

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if script_of(char) == INHERITED:
            self.marks.add(char)
        self[code] = written = f" {char} " if is_han_kana(char) else char
        return written


_SPACED = _Spaced()


def _tokens_with_marks(text: str) -> list[str]:
    """Apply rules 2 and 3 character by character: a mark may stand on Han or Kana."""
    tokens: list[str] = []
    for chunk in text.split():
        goes_on = after_han = False
        for char in chunk:
            han = is_han_kana(char)
            if goes_on and not han and not (after_han and script_of(char) != INHERITED):
                tokens[-1] += char
            else:
                tokens.append(char)
                goes_on, after_han = True, han
    return tokens


def words(text: str) -> list[str]:
    """Split a text (NFC) at white space only: the tokens of the plain word error rate."""
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).split()


def characters(text: str) -> list[str]:
    """Return the characters (NFC code points) of a text without its white space.

    They are the tokens of the character error rate. ESPnet's own CER counts `<space>` as one more
    character; ours does not, so the two differ.
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


def unspaced(text: str) -> str:
    """Write Han and Kana without blanks between them, as Whisper does.

    * No blank before a Han or Kana character: there it would be a token of its own, which a model
      trained on unspaced Chinese has never met.
    * One blank between a Han or Kana character and a word that begins with a letter of another
      script, whether there was one or not: `我们want 咖啡` becomes `我们 want咖啡`.
    * Between Han or Kana and digits, signs or ASCII punctuation a blank stays if it was there, and
      between them and wide punctuation it goes.
    * Every other stretch of white space becomes one blank; none stay at the ends.

    The tokens of the mixed error rate (`mixed_tokens`) stay the same, and a
    second call changes nothing.
    """
    if text.isascii():
        return " ".join(text.split())
    out: list[str] = []
    after_han = False  # what was written last is Han or Kana, with its marks
    for chunk in text.split():
        if out and not is_han_kana(chunk[0]) and not (after_han and chunk[0] in _WIDE):
            out.append(" ")
            after_han = False
        for char in chunk:
            if is_han_kana(char):
                after_han = True
            elif not (after_han and script_of(char) == INHERITED):
                if after_han and unicodedata.category(char)[0] == "L":
                    out.append(" ")
                after_han = False
            out.append(char)
    return "".join(out)
