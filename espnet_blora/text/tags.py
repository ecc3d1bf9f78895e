"""Marks that stand for something other than words, and what their removal means.

``removed``: ``<noise>`` and ``[laugh]`` go whole, ``[a [b] c]`` too; ``a < b`` is no tag.

``seame``: as the recipe ESPnet ships for SEAME makes its ``text.clean``, so that figures compare:
``<...>`` goes whole (``<unk movie title>``, ``< unk >``, ``<v-noise>``), so do the laugh and breath
marks ``ppl ppb ppc ppo`` in any bracket, unbalanced or bare (``(ppl)``, ``(ppl0``, ``ppb)``); a
discourse particle or hesitation in brackets is a word that was said and stays (``[lah]`` and
``(er)`` are ``lah`` and ``er`` once punctuation goes); ``é`` is written ``e``.
"""

from __future__ import annotations

import re

REMOVED, SEAME = "removed", "seame"

_TAG = re.compile(r"<[^<>\s][^<>]*>|\[[^\[\]]*\]")
_ANGLE = re.compile(r"<[^<>]*>")
# The closing bracket is often typed as the zero on the same key.
_BREATH = re.compile(r"[(\[]?(?<![a-z0-9])pp[lbco]0?(?![a-z0-9])[)\]]?", re.IGNORECASE | re.ASCII)
SEAME_LETTERS = {"é": "e", "É": "E"}


def without_tags(text: str) -> str:
    """Put a blank in the place of each ``<tag>`` and ``[tag]``."""
    return _until_none(_TAG, text) if "<" in text or "[" in text else text


def without_angle_tags(text: str) -> str:
    """Put a blank in the place of each ``<tag>``, blanks inside it allowed."""
    return _until_none(_ANGLE, text) if "<" in text else text


def without_breath_marks(text: str) -> str:
    """Put a blank in the place of each ``ppl``, ``ppb``, ``ppc`` and ``ppo``."""
    return _until_none(_BREATH, text) if "pp" in text or "P" in text else text


def _until_none(pattern: re.Pattern[str], text: str) -> str:
    count = 1
    while count:
        text, count = pattern.subn(" ", text)
    return text
