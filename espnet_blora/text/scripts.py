"""Scripts of characters, from the character database that comes with Python.

Unicode's own `Script` property is not in `unicodedata`, but the name of a letter begins with
its script ("ARABIC LETTER BEH", "CJK UNIFIED IDEOGRAPH-4F60"), so the name is asked, with the
exceptions below.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

COMMON = "Common"  # digits, punctuation, blanks, symbols
INHERITED = "Inherited"  # combining marks and joiners that take the script of what they stand on
HAN, HIRAGANA, KATAKANA = "Han", "Hiragana", "Katakana"

# Letters, or characters written as letters are, whose name does not begin with their script.
_EXCEPTIONS = {
    "\u3005": HAN,  # ideographic iteration mark
    "\u3006": HAN,  # ideographic closing mark
    "\u3007": HAN,  # ideographic number zero
    "\u303b": HAN,  # vertical ideographic iteration mark
    "\u30fc": KATAKANA,  # prolonged sound mark
    "\uff70": KATAKANA,  # its halfwidth form
    "\u3099": INHERITED,  # combining voiced sound mark
    "\u309a": INHERITED,  # combining semi-voiced sound mark
    "\u00aa": "Latin",  # feminine ordinal indicator
    "\u00ba": "Latin",  # masculine ordinal indicator
    "\u00b5": "Greek",  # micro sign
    "\u200c": INHERITED,  # zero width non-joiner
    "\u200d": INHERITED,  # zero width joiner
}
_PREFIXES = {"CJK": HAN, "KANGXI": HAN, "OHM": "Greek", "KELVIN": "Latin", "ANGSTROM": "Latin"}


@lru_cache(maxsize=65536)
def script_of(char: str) -> str:
    """Return the script of one character, such as `"Han"`, `"Latin"` or `"Common"`.

    Combining marks that belong to one script ("DEVANAGARI SIGN VIRAMA") have it; marks shared by
    many scripts, variation selectors and joiners are `"Inherited"`.

    >>> [script_of(char) for char in "a1我か"]
    ['Latin', 'Common', 'Han', 'Hiragana']
    """
    if char in _EXCEPTIONS:
        return _EXCEPTIONS[char]
    code = ord(char)
    if code < 0x80:
        return "Latin" if char.isalpha() else COMMON
    if 0x20000 <= code <= 0x3FFFF:  # the planes of ideographs, newer extensions included
        return HAN
    if 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF:  # variation selectors
        return INHERITED
    category = unicodedata.category(char)
    name = unicodedata.name(char, "")
    first, _, rest = name.partition(" ")
    if first in ("HALFWIDTH", "FULLWIDTH"):
        first = rest.partition(" ")[0]
    if first in _PREFIXES:
        return _PREFIXES[first] if category[0] in "LSN" else COMMON
    if category[0] == "M":
        return INHERITED if first in ("COMBINING", "VARIATION", "ENCLOSING", "") else first.title()
    if category[0] == "L":
        return COMMON if first in ("MODIFIER", "MATHEMATICAL", "") else first.title()
    return COMMON


def is_han_kana(char: str) -> bool:
    """Tell whether a character counts as a token of its own in mixed scoring."""
    return script_of(char) in (HAN, HIRAGANA, KATAKANA)
