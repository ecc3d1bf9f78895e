"""Marks that stand for something other than words, and their removal.

`removed`: `<noise>` and `[laugh]` go whole, `[a [b] c]` too; `a < b` is not a tag.

`seame`: as the recipe ESPnet ships for SEAME makes its `text.clean`, so that figures compare:
`<...>` goes whole (`<unk movie title>`, `< unk >`, `<v-noise>`), so do the laugh and breath
marks `ppl ppb ppc ppo` in any bracket, unbalanced or bare (`(ppl)`, `(ppl0`, `ppb)`); a
discourse particle or hesitation in brackets is a word that was said and stays (`[lah]` and
`(er)` are `lah` and `er` once punctuation goes); `é` is written `e`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

REMOVED, SEAME = "removed", "seame"

_ANGLES, _SQUARES = re.compile("([<>])"), re.compile(r"([\[\]])")
# The closing bracket is often typed as the zero on the same key.
_BREATH = re.compile(r"[(\[]?(?<![a-z0-9])pp[lbco]0?(?![a-z0-9])[)\]]?", re.IGNORECASE | re.ASCII)
SEAME_LETTERS = {"é": "e", "É": "E"}


def without_tags(text: str) -> str:
    """Put a blank in the place of each `<tag>` and `[tag]`."""
    before = ""
    while before != text and ("<" in text or "[" in text):
        before = text  # a pair that is not a tag may stand in [...] and bar the pair around that
        text = _without_pairs(_ANGLES, "<", text, lambda inside: inside[:1].strip() != "")
        text = _without_pairs(_SQUARES, "[", text)
    return text


def without_angle_tags(text: str) -> str:
    """Put a blank in the place of each `<tag>`, blanks inside it allowed."""
    return _without_pairs(_ANGLES, "<", text) if "<" in text else text


def without_breath_marks(text: str) -> str:
    """Put a blank in the place of each `ppl`, `ppb`, `ppc` and `ppo`."""
    return _BREATH.sub(" ", text) if "pp" in text or "P" in text else text


def _without_pairs(
    brackets: re.Pattern[str],
    opening: str,
    text: str,
    is_tag: Callable[[str], bool] = lambda inside: True,
) -> str:
    """Blank balanced brackets with what is inside, innermost first, in linear time.

    A pair that is not a tag stays, and so does every pair around it.
    """
    out: list[str] = []
    open_at: list[int] = []
    for piece in brackets.split(text):
        if piece == opening:
            open_at.append(len(out))
        elif open_at and brackets.fullmatch(piece):
            start = open_at.pop()
            if is_tag("".join(out[start + 1 :])):
                del out[start:]
                piece = " "
            else:
                open_at.clear()
        out.append(piece)
    return "".join(out)
