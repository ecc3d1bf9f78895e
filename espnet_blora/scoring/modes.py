"""Ways to score: units of tokens, points of interest, and modes that name all of them together."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from espnet_blora.scoring.counts import HAN_KANA, HAN_KANA_SCRIPTS, REST
from espnet_blora.text import characters, mixed_tokens, words
from espnet_blora.text.presets import get_normalisation

NOASCII = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]")
"""What `sclite -e utf-8 -c NOASCII` makes of a word."""


def espnet_tokens(text: str) -> list[str]:
    """Split a text as ESPnet's stage 13 and `sclite -e utf-8 -c NOASCII` do.

    White space separates, and every character outside ASCII is a token (so `über` is two: `ü
    ber`). Right for Chinese beside English, and meant for comparison with what ESPnet's recipes
    publish; elsewhere `mer` is the better unit. sclite also folds A-Z to a-z: that is the
    normalisation `espnet_compatible`.

    >>> espnet_tokens("我想要 an über")
    ['我', '想', '要', 'an', 'ü', 'ber']
    """
    return [token for word in text.split() for token in NOASCII.findall(word)]


UNITS: dict[str, Callable[[str], list[str]]] = {
    "mer": mixed_tokens,  # Han and Kana by character, other scripts by word
    "wer": words,  # by white space only
    "cer": characters,  # by character, white space not counted
    "espnet": espnet_tokens,  # as ESPnet and sclite -c NOASCII cut: not for other languages
}


def unit_of(unit: str) -> Callable[[str], list[str]]:
    """Return the function that cuts a text into tokens of a unit.

    Raises:
        ValueError: The unit is unknown; all units are named.
    """
    if unit not in UNITS:
        raise ValueError(f"unit {unit!r} is unknown; there are: {', '.join(UNITS)}")
    return UNITS[unit]


def tokeniser(unit: str, normalisation: str) -> Callable[[str], list[str]]:
    """Return the function that makes the tokens that `errors.score` compares from a text.

    Args:
        unit: A key of `UNITS`.
        normalisation: A name that `text.presets.get_normalisation` knows.

    Raises:
        ValueError: The unit or normalisation is unknown.
    """
    treat, tokenise = get_normalisation(normalisation), unit_of(unit)
    return lambda text: tokenise(treat(text))


def points_of(poi: str) -> Callable[[str], bool]:
    """Return the function that tells whether tokens of a script are points of interest.

    Raises:
        ValueError: `poi` cannot be the name of a script.
    """
    if poi == HAN_KANA:
        return lambda script: script in HAN_KANA_SCRIPTS
    if poi == REST:
        return lambda script: script not in HAN_KANA_SCRIPTS
    if not poi.istitle():
        raise ValueError(
            f"points of interest {poi!r} are unknown; there are rest, han_kana and names of "
            "scripts with a capital letter: Latin, Arabic, Devanagari, ..."
        )
    return lambda script: script == poi


@dataclass(frozen=True)
class Mode:
    """What `--mode` sets.

    Attributes:
        unit: A key of `UNITS`.
        normalisation: A name that `text.presets.get_normalisation` knows.
        poi: The points of interest of PIER.
        note: What the mode is for.
        also: Further normalisations, scored beside it.
    """

    unit: str
    normalisation: str
    poi: str
    note: str
    also: tuple[str, ...] = ()


MODES = {
    "default": Mode("mer", "basic", REST, "mixed error rate: Han and Kana by character"),
    "mandarin": Mode(
        "mer", "mandarin", REST, "the same, traditional characters as simplified ones"
    ),
    "arabic": Mode(
        "mer",
        "arabic",
        "Latin",
        "Arabic with words in Latin letters: without vowel marks and tatweel; beside it strictly "
        "(basic), and with like letters as one (arabic_lenient)",
        ("basic", "arabic_lenient"),
    ),
    "tags_removed": Mode(
        "mer", "seame", REST, "SEAME without <noise> and the like, simplified characters"
    ),
    "espnet_compatible": Mode(
        "espnet",
        "espnet_compatible",
        REST,
        "as ESPnet's recipes score with sclite -c NOASCII (SEAME: 16.6 and 23.3 %): <noise> is a "
        "token, A-Z are folded, every character outside ASCII is a token",
    ),
}


def combinations(
    name: str,
    units: Sequence[str] | None = None,
    normalisations: Sequence[str] | None = None,
    poi: str | None = None,
) -> list[Mode]:
    """Return a mode's combinations of unit and normalisation; what is given replaces its own.

    Normalisations have their canonical names; equal combinations come once.

    Raises:
        ValueError: The mode, a unit, a normalisation or the kind of points is unknown, or the
            library of a normalisation is not installed.
    """
    if name not in MODES:
        raise ValueError(f"mode {name!r} is unknown; there are: {', '.join(MODES)}")
    mode = MODES[name]
    mode = replace(mode, poi=mode.poi if poi is None else poi)
    points_of(mode.poi)
    modes = []
    for unit, normalisation in product(
        units or [mode.unit], normalisations or [mode.normalisation, *mode.also]
    ):
        unit_of(unit)
        treat = get_normalisation(normalisation)
        treat("")  # a library that is missing is missed before anything is scored
        modes.append(replace(mode, unit=unit, normalisation=treat.name, also=()))
    return list(dict.fromkeys(modes))
