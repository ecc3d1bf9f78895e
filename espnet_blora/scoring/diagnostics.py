"""Oddities of texts and ids: refused where they cannot be scored, else counted and listed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from espnet_blora.scoring.counts import Remark

MOST_CHARACTERS = 500  # a longer token is listed: no word is that long

# kind of remark -> how such a thing is counted
REMARKS = {
    "empty_reference": "everything recognised there counts as inserted",
    "empty_hypothesis": "every reference token counts as deleted",
    "missing_hypothesis": "counted as empty, on request",
    "ids_differ_by_case": "scored as different utterances; sclite takes them for one without -s",
    "control_characters": (
        "U+001C to U+001F, U+0085 and the line breaks among them separate tokens as blanks do "
        "(in Kaldi's tools and sclite they do not); the others stay in their token"
    ),
    "long_token": "counts as one token",
    "many_errors": (
        "the alignment is that of rapidfuzz, and PIER's range, in mixed text, goes from none to all"
    ),
}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


def place_of(texts: Mapping[str, object], key: str) -> str:
    """Return `file:line` of an utterance; "" where the texts came from no file."""
    where = getattr(texts, "where", None)
    return where(key) if where else ""


def look_at(side: str, key: str, text: str, texts: Mapping[str, str]) -> Iterator[Remark]:
    """Yield remarks on one text: control characters, tokens longer than `MOST_CHARACTERS`."""
    if len(text) <= MOST_CHARACTERS and text.isprintable():
        return
    if control := _CONTROL.findall(text):
        named = ", ".join(f"U+{ord(c):04X}" for c in sorted(set(control))[:5])
        what = f"{len(control)} control characters ({named})"
        yield Remark("control_characters", side, key, place_of(texts, key), what)
    longest = max(text.split(), key=len, default="")
    if len(longest) > MOST_CHARACTERS:
        what = f"a token of {len(longest)} characters, {longest[:20]}..."
        yield Remark("long_token", side, key, place_of(texts, key), what)


def ids_by_case(texts: Mapping[str, str]) -> Iterator[Remark]:
    """Yield a remark for each id that differs by case only from one before it."""
    first: dict[str, str] = {}
    if len({key.lower() for key in texts}) == len(texts):
        return
    for key in texts:
        other = first.setdefault(key.lower(), key)
        if other != key:
            place = place_of(texts, other)
            what = f"differs by case only from {other}" + (f" ({place})" if place else "")
            yield Remark("ids_differ_by_case", "reference", key, place_of(texts, key), what)


def check_ids(
    ref: Mapping[str, str], hyp: Mapping[str, object], *, missing_as_empty: bool = False
) -> list[str]:
    """Compare the ids of both sides.

    Args:
        ref: Id -> reference.
        hyp: Id -> what was recognised.
        missing_as_empty: References without hypothesis are allowed.

    Returns:
        The ids of references without hypothesis, if those are allowed.

    Raises:
        ValueError: Ids are missing or too many. They are named with file and line, and so are near
            misses that differ by case only.
    """
    if not ref:
        raise ValueError("no reference utterance: there is nothing to score")
    missing = sorted(key for key in ref if key not in hyp)
    extra = sorted(key for key in hyp if key not in ref)
    problems = []
    if missing and not missing_as_empty:
        named = with_places(missing, ref)
        problems.append(f"{len(missing)} of {len(ref)} references have no hypothesis: {named}")
    if extra:
        problems.append(f"{len(extra)} hypotheses have no reference: {with_places(extra, hyp)}")
    if problems:
        folded = {key.casefold() for key in extra}
        near = [key for key in missing if key.casefold() in folded]
        if near:
            problems.append(f"ids that differ by case only: {with_places(near, ref)}")
        if missing and not missing_as_empty:
            problems.append("decode them, or ask for missing hypotheses to be counted as empty")
        raise ValueError("; ".join(problems))
    return missing


def with_places(ids: Collection[str], texts: Mapping[str, object], limit: int = 5) -> str:
    """Write the first ids with their places, and how many there are."""
    shown = [(key, place_of(texts, key)) for key in list(ids)[:limit]]
    listed = ", ".join(f"{key} ({place})" if place else key for key, place in shown)
    return listed + (f", ... ({len(ids)} in all)" if len(ids) > limit else "")
