"""How many of a set: an option written as a share or as a count."""

from __future__ import annotations


def part_size(value: str, total: int, option: str) -> int:
    """Return how many of `total` an option asks for.

    `value`: a count (`"300"`), a percentage (`"5%"`) or a share (`"0.05"`). A share is
    rounded down, but a share above 0 of a set that is not empty gives at least 1.

    Raises: ValueError naming the option if it is none of these, or if nothing of `total` would be
    left.
    """
    text = value.strip()
    try:
        if text.isdecimal() and text.isascii():
            share, count = 0.0, int(text)
        else:
            share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
            count = 0 if share == 0 else max(1, int(share * total + 1e-9))
    except (ValueError, OverflowError):  # the second: infinity
        share = -1.0
    if not 0 <= share < 1:
        raise ValueError(
            f"{option}={value}: a count (300), a percentage (5%) or a share (0.05) is expected"
        )
    if count and count >= total:
        raise ValueError(f"{option}={value}: only {total} are there, and some must be left")
    return count
