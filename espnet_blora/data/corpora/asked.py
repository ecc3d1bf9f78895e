"""What a user asked for: the folder of a copy, names of sets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path


def find_root(
    path: Path, marks: Sequence[str], variants: Sequence[str] = ("",), hint: str = ""
) -> Path:
    """Return the first of `path/variant` that holds one of `marks`.

    Marks and variants are relative paths or patterns, as for `Path.glob`; a pattern's matches are
    tried sorted. A path that is itself named like a mark stands for its parent.

    Raises: FileNotFoundError saying what was looked for, and `hint`.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such directory{hint and f'; {hint}'}")
    candidates: list[Path] = []
    for variant in variants:
        candidates += sorted(path.glob(variant)) if "*" in variant else [path / variant]
    if path.resolve().name in marks:
        candidates.append(path.resolve().parent)
    for candidate in candidates:
        if any(_holds(candidate, mark) for mark in marks):
            return candidate
    below = ", ".join(variant for variant in variants if variant)
    raise FileNotFoundError(
        f"{path}: holds none of {', '.join(marks)}"
        + (f", nor does {below} in it" if below else "")
        + (f"; {hint}" if hint else "")
    )


def _holds(folder: Path, mark: str) -> bool:
    return any(folder.glob(mark)) if "*" in mark else (folder / mark).exists()


def check_sets(corpus: str, names: Sequence[str], known: Collection[str]) -> None:
    """Raise ValueError for a set that the corpus does not have."""
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"{corpus} has no set {', '.join(unknown)}; there are: {', '.join(known) or 'none'}"
        )


class SetAbsentError(FileNotFoundError):
    """A set that this copy of a corpus lacks altogether, which may be no fault."""


def present(place: Path, remedy: str) -> Path:
    """Return the file or folder that a set begins with.

    Raises: SetAbsentError if there is none, with the remedy.
    """
    if not place.exists():
        raise SetAbsentError(f"{place}: not there; {remedy}")
    return place


def language_folder(root: Path, option: str, options: Mapping[str, str]) -> Path:
    """Return the folder of one language (it holds `test.tsv`): the option's, or the only one.

    Raises: ValueError naming those there are, if the option is needed; SetAbsentError if the one
    it names is not there.
    """
    there = sorted(table.parent.name for table in root.glob("*/test.tsv"))
    name = options.get(option) or (there[0] if len(there) == 1 else "")
    if not name:
        raise ValueError(f"option {option}=... is needed; {root} has: {', '.join(there)}")
    if name not in there:
        raise SetAbsentError(
            f"{root}/{name}: no such folder with test.tsv; there are: {', '.join(there) or 'none'}"
        )
    return root / name
