"""CL-MASR's part of a Common Voice set: 10 h to train on, 1 h each to validate and test.

CL-MASR (speechbrain/benchmarks; Common Voice 13) walks through a fixed list of row numbers, which
it fetches as `random_idxes.txt`, one number (from 0) a line, and takes rows while their total is
no longer than 36,000, 3,600 and 3,600 s for train, dev and test; numbers beyond the table are
passed over, and the row that exceeds the limit still counts. Sentences then lose commas, quotation
marks and apostrophes, `$` becomes `S`, and those that are empty or longer than 200 characters
are dropped.

Give the list as option `random_idxes=FILE`. Without it rows are ordered by the SHA-256 of their
clips' names: as fixed and as random, but **not the rows of CL-MASR**; every set is noted as such.

CL-MASR's text lacks apostrophes, which scoring cannot bring back: `text=corpus` keeps the
sentences of the same rows as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from espnet_blora.data import audio
from espnet_blora.data.corpora import limits, tables
from espnet_blora.data.corpora.files import choice
from espnet_blora.data.records import Ledger

log = logging.getLogger(__name__)

OPTIONS = {
    "subset": "all (default), or cl_masr: CL-MASR's 10 h, 1 h and 1 h",
    "random_idxes": "with subset=cl_masr: CL-MASR's random_idxes.txt; without it other rows",
    "hours": "with subset=cl_masr: hours of the training set (default 10), as 0.5",
    "text": "with subset=cl_masr: cl_masr (default) removes commas and apostrophes; corpus: as is",
}
_SECONDS = {"train": 36000.0, "dev": 3600.0, "test": 3600.0}
_LONGEST = 200  # characters
_CLEANING = str.maketrans({**dict.fromkeys(",'’`", " "), '"': "", "$": "S"})
NOT_THEIRS = "not CL-MASR's rows: random_idxes=FILE was not given"


def draw(
    rows: Sequence[tables.Row],
    name: str,
    folder: Path,
    options: Mapping[str, str],
    ledger: Ledger,
) -> list[tables.Row]:
    """Return the rows of a set that belong to the part, in the order they are drawn in.

    Rows whose cleaned sentence is empty or too long are listed in the ledger, as are clips whose
    length nobody tells (these count as 0 s).

    Raises: FileNotFoundError; ValueError for a list or an option that is malformed.
    """
    limit = _limit(name, options)
    as_theirs = choice(options, "text", ("cl_masr", "corpus")) == "cl_masr"
    told = told_durations(folder)
    kept, total = [], 0.0
    for row in _in_order(rows, folder / f"{name}.tsv", options.get("random_idxes"), ledger):
        if total > limit:
            break
        where, fields = row
        clip = fields["path"]
        seconds = told.get(clip)
        if seconds is None:
            seconds = _look(where, folder / "clips" / clip, ledger)
        total += seconds
        cleaned = " ".join(fields["sentence"].translate(_CLEANING).split())
        if not cleaned:
            ledger.skip(where, Path(clip).stem, "empty after cleaning", fields["sentence"])
        elif len(cleaned) > _LONGEST:
            ledger.skip(where, Path(clip).stem, f"longer than {_LONGEST} characters")
        else:
            kept.append(tables.Row(where, fields | {"sentence": cleaned}) if as_theirs else row)
    return kept


def _limit(name: str, options: Mapping[str, str]) -> float:
    """Seconds of a set."""
    hours = limits.positive(options, "hours") if name == "train" else None
    return _SECONDS[name] if hours is None else hours * 3600


def _in_order(
    rows: Sequence[tables.Row], table: Path, indices: str | None, ledger: Ledger
) -> Iterator[tables.Row]:
    if indices:
        yield from _listed(rows, table, Path(indices))
        return
    log.warning(f"{table}: {NOT_THEIRS}; figures do not compare with the published ones")
    ledger.note(str(table), "", NOT_THEIRS)
    yield from sorted(rows, key=lambda row: limits.order(row.fields["path"]))


def _listed(rows: Sequence[tables.Row], table: Path, indices: Path) -> Iterator[tables.Row]:
    taken = set()
    for number, line in tables.lines(indices):
        if not line.strip().isdecimal():
            raise ValueError(f"{indices}:{number}: {line!r}; expected a row number, from 0")
        index = int(line)
        if index in taken:
            raise ValueError(f"{indices}:{number}: row {index} is in the list already")
        if index < len(rows):
            taken.add(index)
            yield rows[index]
            if len(taken) == len(rows):
                return
    raise ValueError(
        f"{indices}: ends with {len(taken)} rows drawn of the {len(rows)} that {table} has; "
        "CL-MASR's list has 2,000,000 numbers: fetch it again"
    )


def told_durations(folder: Path) -> dict[str, float]:
    """Seconds of every clip by `clip_durations.tsv`, which releases from 16.1 on have."""
    table = folder / "clip_durations.tsv"
    if not table.is_file():
        return {}
    return dict(_durations(tables.tsv(table, ("clip", "duration[ms]"))))


def _durations(rows: Iterable[tables.Row]) -> Iterator[tuple[str, float]]:
    for where, row in rows:
        told = row["duration[ms]"]
        if not told.strip().isdecimal():
            raise ValueError(f"{where}: duration {told!r}; expected milliseconds")
        yield row["clip"], int(told) / 1000


def _look(where: str, clip: Path, ledger: Ledger) -> float:
    try:
        return audio.duration(clip)
    except (FileNotFoundError, ValueError) as error:
        ledger.note(where, clip.stem, "unknown duration", str(error))
        return 0.0
