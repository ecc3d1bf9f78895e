"""Named normalisations of both sides before they are compared.

The name goes beside every figure, so two figures with the same name were treated the same way. A
name is a preset, or a preset and flags: `basic+ascii_digits+spell_digits=en`. Equal treatments
have one name, the *canonical* one: the preset that leaves the fewest flags to add (of two such, the
earlier in `NORMALISATIONS`), then the flags in the order of `FLAGS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from functools import lru_cache

from espnet_blora.text import tags
from espnet_blora.text.digits import check_language
from espnet_blora.text.normalisation import ASCII, FULL, NOTHING, TURKISH, Normalisation
from espnet_blora.utils.mistakes import did_you_mean

SPELL_DIGITS = "spell_digits"

# Flag -> what it sets. `spell_digits` takes a value, the language.
FLAGS: dict[str, tuple[str, object]] = {
    "nfc": ("form", "NFC"),
    "nfkc": ("form", "NFKC"),
    "no_tags": ("tags", tags.REMOVED),
    "no_seame_tags": ("tags", tags.SEAME),
    "casefold": ("case", FULL),
    "ascii_case": ("case", ASCII),
    "turkish_case": ("case", TURKISH),
    "no_punctuation": ("punctuation", False),
    "no_arabic_marks": ("arabic_marks", False),
    "no_tatweel": ("tatweel", False),
    "alef": ("alef", True),
    "alef_maksura": ("alef_maksura", True),
    "teh_marbuta": ("teh_marbuta", True),
    "hamza": ("hamza", True),
    "ascii_digits": ("ascii_digits", True),
    "simplified": ("simplified", True),
    SPELL_DIGITS: (SPELL_DIGITS, None),
}
_FIELDS = [f.name for f in fields(Normalisation) if f.name != "name"]


def _presets() -> dict[str, Normalisation]:
    basic = Normalisation(form="NFKC", case=FULL, punctuation=False)
    arabic = replace(basic, arabic_marks=False, tatweel=False)
    presets = {
        "none": NOTHING,
        "basic": basic,
        "basic_without_tags": replace(basic, tags=tags.REMOVED),
        # the scripts' own
        "arabic": arabic,
        "arabic_lenient": replace(
            arabic, alef=True, alef_maksura=True, teh_marbuta=True, hamza=True, ascii_digits=True
        ),
        "mandarin": replace(basic, simplified=True),
        "turkish": replace(basic, case=TURKISH),
        # SEAME's two ways
        "seame": replace(basic, tags=tags.SEAME, simplified=True),
        "espnet_compatible": Normalisation(case=ASCII),
    }
    return {name: replace(treatment, name=name) for name, treatment in presets.items()}


NORMALISATIONS: dict[str, Normalisation] = _presets()


@lru_cache(maxsize=256)
def get_normalisation(name: str) -> Normalisation:
    """Return the normalisation a name stands for, under its canonical name.

    Args:
        name: `PRESET` or `PRESET+FLAG+FLAG`: a key of `NORMALISATIONS`, then keys of
            `FLAGS` in any order, `spell_digits` with a language: `basic+spell_digits=en`.

    Raises:
        ValueError: A preset, flag or language is unknown (the nearest is named), a flag contradicts
            the preset or another flag, or a value is missing or too many.

    >>> get_normalisation("basic+simplified").name
    'mandarin'
    >>> get_normalisation("basic")("Don't STOP!")
    "don't stop"
    """
    preset, *flags = name.split("+")
    if preset not in NORMALISATIONS:
        raise ValueError(
            f"normalisation {name!r} is unknown: there is no preset {preset!r}"
            f"{did_you_mean(preset, NORMALISATIONS)}; there are: {', '.join(NORMALISATIONS)}"
            " (flags follow a preset, as in basic+simplified)"
        )
    treatment = NORMALISATIONS[preset]
    set_by: dict[str, str] = {}
    for flag in flags:
        attribute, value = _parse_flag(flag, name)
        now, unset = getattr(treatment, attribute), getattr(NOTHING, attribute)
        if now not in (unset, value):
            raise ValueError(
                f"normalisation {name!r}: {flag!r} contradicts {set_by.get(attribute, preset)!r},"
                f" which has {attribute} = {now!r} already; leave one of them out"
            )
        treatment = replace(treatment, **{attribute: value})  # type: ignore[arg-type]
        set_by[attribute] = flag
    if treatment.spell_digits:  # no digit of any script is left to rewrite
        treatment = replace(treatment, ascii_digits=False)
    return replace(treatment, name=_canonical_name(treatment))


def _parse_flag(flag: str, name: str) -> tuple[str, object]:
    key, equals, value = flag.partition("=")
    if key not in FLAGS:
        hint = (
            f"; {key!r} is a preset and goes first"
            if key in NORMALISATIONS
            else did_you_mean(key, FLAGS)
        )
        raise ValueError(
            f"normalisation {name!r} is unknown: there is no flag {key!r}{hint};"
            f" there are: {', '.join(FLAGS)}"
        )
    attribute, fixed = FLAGS[key]
    if key == SPELL_DIGITS:
        if not value:
            raise ValueError(f"normalisation {name!r}: {key} needs a language, as in {key}=en")
        return attribute, check_language(value)
    if equals:
        raise ValueError(f"normalisation {name!r}: {key} takes no value; write {key}")
    return attribute, fixed


def _canonical_name(treatment: Normalisation) -> str:
    """Spell a treatment as the preset that needs the fewest flags, and these flags."""
    spellings = []
    for name, preset in NORMALISATIONS.items():
        differing = [f for f in _FIELDS if getattr(preset, f) != getattr(treatment, f)]
        # else it does something that the treatment does not
        if all(getattr(preset, f) == getattr(NOTHING, f) for f in differing):
            spellings.append([name, *_flags_setting(differing, treatment)])
    shortest = min(spellings, key=len)
    return "+".join(shortest)


def _flags_setting(attributes: Iterable[str], treatment: Normalisation) -> list[str]:
    values = {attribute: getattr(treatment, attribute) for attribute in attributes}
    flags = []
    for flag, (attribute, value) in FLAGS.items():
        if flag == SPELL_DIGITS and values.get(attribute):
            flags.append(f"{flag}={values[attribute]}")
        elif attribute in values and values[attribute] == value:
            flags.append(flag)
    return flags
