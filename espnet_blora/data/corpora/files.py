"""What several corpora need: recordings by name, options with a choice, counts side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def by_stem(folders: Iterable[Path], suffixes: Sequence[str]) -> dict[str, Path]:
    """Recordings by name without suffix, whatever the case of the suffix.

    Of several with one name, the suffix named first wins, then the folder named first.
    """
    found: dict[str, Path] = {}
    ranks: dict[str, tuple[int, int, str]] = {}
    for place, folder in enumerate(folders):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            suffix = path.suffix.lower()
            if suffix not in suffixes:
                continue
            rank = (suffixes.index(suffix), place, path.name)
            if path.stem not in found or rank < ranks[path.stem]:
                found[path.stem], ranks[path.stem] = path, rank
    return found


def choice(options: Mapping[str, str], name: str, allowed: Sequence[str]) -> str:
    """The value of an option, the first of `allowed` unless the user gave one.

    Raises: ValueError naming what is allowed.
    """
    value = options.get(name, allowed[0])
    if value not in allowed:
        raise ValueError(f"option {name}={value}: allowed are {', '.join(allowed)}")
    return value


def found_of(
    found: int, expected: int | None, *, sure: bool = True
) -> tuple[str, str, bool | None]:
    """Found and expected counts as `check_corpus` shows them, and whether they agree.

    Where the expectation is not `sure` (second-hand, or made with other tools), another count is
    no fault: None instead of False, unless there is nothing at all.
    """
    if expected is None:
        return f"{found:,}", "-", None
    agrees = found == expected
    return f"{found:,}", f"{expected:,}", agrees if agrees or sure or not found else None
