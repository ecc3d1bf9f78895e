"""Fisher Spanish's sets: the mapping files of the translations, and the code-switching split.

A mapping file (Post et al. 2013) has one line `<call> <n>[_<n>...]` per utterance: data lines of
that call's transcript, from 1, which are joined. The code-switching sets (Weller et al. 2022) are
lines of those files, from 0: `eval` is dev, dev2 and test; a tenth of the code-switched lines of
train is drawn for validation, and as many of the other lines as remain for a monolingual sample.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from espnet_blora.data.corpora.tables import csv_rows, lines

PARTS = ("train", "dev", "dev2", "test")  # as the translations divide the calls
EVALUATION = ("dev", "dev2", "test")
_SEED = 1
_NUMBERS = re.compile(r"[1-9][0-9]{0,5}(?:_[1-9][0-9]{0,5})*")
_COLUMNS = ("file", "file_line_num", "split", "audio_file", "audio_file_line_num", "cs_type")


class Line(NamedTuple):
    """One utterance of a mapping file: data lines `numbers` (from 1) of the transcript."""

    call: str
    numbers: tuple[int, ...]
    where: str


class Draw(NamedTuple):
    """Positions in the code-switched and in the monolingual lines of train that were drawn."""

    validation: list[int]
    mono_sample: list[int]


class Entry(NamedTuple):
    """An entry of `fisher_mapping.csv` about one line."""

    switched: bool
    validation: bool
    where: str


def find_mapping(root: Path, given: str | None) -> Path:
    """Return the folder with `fisher_train` etc.: in `given`, or in the usual clone below `root`.

    Raises:
        FileNotFoundError: There is none; names where it was looked for and how to get it.
    """
    clone = "fisher-callhome-corpus"
    bases = [Path(given)] if given else [root / clone, root]
    places = [place for base in bases for place in (base / "mapping", base)]
    for place in places:
        if (place / "fisher_train").is_file():
            return place
    raise FileNotFoundError(
        "no mapping files of Fisher Spanish (fisher_train, fisher_dev, fisher_dev2, fisher_test): "
        f"looked in {', '.join(map(str, places))}. Clone github.com/joshua-decoder/{clone} and "
        "give mapping_dir=<that clone>"
    )


def read_mapping(folder: Path, part: str) -> list[Line]:
    """Read `fisher_<part>`, one utterance per line.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: A line is malformed; names file and line.
    """
    path = folder / f"fisher_{part}"
    result = []
    for where, line in lines(path):
        fields = line.split()
        if len(fields) != 2 or not _NUMBERS.fullmatch(fields[1]):
            raise ValueError(f"{where}: {line!r}; expected '<call> <n>' or '<call> <n>_<n>'")
        result.append(Line(fields[0], tuple(map(int, fields[1].split("_"))), where))
    return result


def draw(switched: int, mono: int, evaluation_ties: int, train_ties: int) -> Draw:
    """Draw as the published split did, from `random.seed(1)`.

    Args:
        switched: Number of code-switched lines of train.
        mono: Number of other lines of train.
        evaluation_ties: Code-switched lines of the evaluation sets of which exactly half is
            foreign: a random number was drawn for each before the validation set.
        train_ties: The same of train: drawn before the monolingual sample.
    """
    generator = random.Random(_SEED)
    for _ in range(evaluation_ties):
        generator.random()
    validation = generator.sample(range(switched), int(0.1 * switched))
    for _ in range(train_ties):
        generator.random()
    sample = generator.sample(range(mono), min(mono, switched - len(validation)))
    return Draw(sorted(validation), sorted(sample))


def read_published(
    path: Path, mapping: Mapping[str, Sequence[Line]]
) -> dict[str, dict[int, Entry]]:
    """Read `fisher_mapping.csv`: part -> index of the line (from 0) -> entry.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: It does not fit the mapping files, or leaves out lines of one; names file and
            line.
    """
    result: dict[str, dict[int, Entry]] = {part: {} for part in mapping}
    for where, row in csv_rows(path, _COLUMNS):
        part = row["file"].removeprefix("fisher_")
        if part not in PARTS or not re.fullmatch(r"[0-9]{1,7}", row["file_line_num"]):
            raise ValueError(
                f"{where}: file {row['file']!r}, line {row['file_line_num']!r}; expected "
                "fisher_train, fisher_dev, fisher_dev2 or fisher_test, and a number from 0"
            )
        if part not in mapping:
            continue
        # Is its kind one of those known?
        index = int(row["file_line_num"])
        split = "train dev" if part == "train" else "test"
        if row["cs_type"] not in ("cs", "mono") or row["split"] not in split.split():
            raise ValueError(
                f"{where}: split {row['split']!r}, cs_type {row['cs_type']!r}; expected split "
                f"{split.replace(' ', ' or ')} for fisher_{part}, and cs_type cs or mono"
            )
        # Is it the line of the mapping file?
        line = mapping[part][index] if index < len(mapping[part]) else None
        named = row["audio_file"], row["audio_file_line_num"]
        if line is None or named != (line.call, "_".join(map(str, line.numbers))):
            there = "no such line" if line is None else f"{line.call} {line.numbers}"
            raise ValueError(
                f"{where}: fisher_{part} line {index} is {' '.join(named)}, but the mapping file "
                f"has {there}; are the two of the same release?"
            )
        if index in result[part]:
            raise ValueError(f"{where}: line {index} of fisher_{part} is there already")
        result[part][index] = Entry(row["cs_type"] == "cs", row["split"] == "dev", where)
    # Are all lines there?
    for part, entries in result.items():
        if len(entries) != len(mapping[part]):
            raise ValueError(
                f"{path}: {len(entries)} lines of fisher_{part}, but the mapping file has "
                f"{len(mapping[part])}; is the file whole?"
            )
    return result
