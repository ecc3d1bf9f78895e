"""Named ways to score: unit, normalisation and points of interest that belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from espnet_blora.scoring.counts import REST
from espnet_blora.scoring.errors import points_of, unit_of
from espnet_blora.text.presets import get_normalisation


@dataclass(frozen=True)
class Mode:
    """What `--mode` sets.

    Attributes:
        unit: a key of `units.UNITS`.
        normalisation: a name `text.presets.get_normalisation` knows.
        poi: the points of interest of PIER.
        note: what it is for.
        also: further normalisations, scored beside it.
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

    Raises: ValueError for an unknown mode, unit, normalisation or kind of points, and for a
        normalisation whose library is not installed.
    """
    if name not in MODES:
        raise ValueError(f"mode {name!r} is unknown; there are: {', '.join(MODES)}")
    mode = MODES[name]
    mode = replace(mode, poi=mode.poi if poi is None else poi)
    found = []
    for unit, normalisation in product(
        units or [mode.unit], normalisations or [mode.normalisation, *mode.also]
    ):
        unit_of(unit)
        treat = get_normalisation(normalisation)
        treat("")  # a library that is missing is missed before anything is scored
        found.append(replace(mode, unit=unit, normalisation=treat.name, also=()))
    points_of(mode.poi)
    return list(dict.fromkeys(found))
