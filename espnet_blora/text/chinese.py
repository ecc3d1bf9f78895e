"""Traditional to simplified characters, by OpenCC (extra `zh`).

OpenCC looks at words (乾燥 is 干燥, 乾坤 stays), so what it makes of a character depends on its
neighbours. Blanks between characters are therefore passed over: a spaced reference and an unspaced
hypothesis come out alike. What came out is converted again until nothing changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from itertools import islice

_SURROGATES = re.compile("([\ud800-\udfff]+)")
_MOST_ROUNDS = 8  # two are needed in practice


@cache
def simplifier() -> Callable[[str], str]:
    """Return the function that converts a text whose blanks are single; it keeps its length.

    Raises:
        ValueError: OpenCC is not installed.
    """
    try:
        from opencc import OpenCC
    except ImportError as error:
        raise ValueError(
            "traditional to simplified Chinese needs OpenCC, which is not installed: "
            "pip install 'espnet_blora[zh]' (or pip install OpenCC)"
        ) from error
    opencc = OpenCC("t2s")
    convert = opencc.convert

    def simplify(text: str) -> str:
        if text.isascii():
            return text
        words = text.split(" ")
        joined = "".join(words)
        done = _fixed_point(convert, joined)
        if len(done) != len(joined):  # no table of today's does it; then neighbours cannot be used
            return " ".join(_fixed_point(convert, word) for word in words)
        characters = iter(done)
        return " ".join("".join(islice(characters, len(word))) for word in words)

    return simplify


def _fixed_point(convert: Callable[[str], str], text: str) -> str:
    for _ in range(_MOST_ROUNDS):
        try:
            done = convert(text)
        except UnicodeEncodeError:  # a lone surrogate, which no UTF-8 text has: it stays as it is
            pieces = _SURROGATES.split(text)
            return "".join(
                piece if i % 2 else _fixed_point(convert, piece) for i, piece in enumerate(pieces)
            )
        if done == text:
            break
        text = done
    return text
