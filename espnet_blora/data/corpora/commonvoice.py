"""Common Voice: read sentences in over a hundred languages, as MP3 of various rates.

Layout: `cv-corpus-<version>-<date>/<locale>/{train,dev,test,validated}.tsv` and `clips/`.
Columns are found by the header's names, because releases 13 and 17 inserted some; fields are never
quoted, as sentences hold single quotation marks. The splits change with every release: name the
release beside every figure.

One locale is read at a time (option `locale`); its name is part of the data directory's,
`commonvoice_zh-CN_test`. Sentences are kept as they are: case, punctuation, diacritics.

`train` is `train.tsv`; with `train=validated` it is all of `validated.tsv` that is neither in
`dev.tsv` nor in `test.tsv`, as in ESPnet's recipe. `max_seconds` leaves out longer clips of every
set, after CL-MASR's part was drawn, as its programs do (10 s).

`subset=cl_masr` takes CL-MASR's part of each set: 10 h to train on, 1 h each to validate and test.
CL-MASR (speechbrain/benchmarks; Common Voice 13) walks through a fixed list of row numbers, which
it fetches as `random_idxes.txt`, one number (from 0) per line, and takes rows while their total is
no longer than 36,000, 3,600 and 3,600 s for train, dev and test. Numbers beyond the table are
passed over, and the row that exceeds the limit still counts. Sentences then lose commas, quotation
marks and apostrophes, `$` becomes `S`, and those that are empty or longer than 200 characters
are dropped.

Give the list as option `random_idxes=FILE`. Without it rows are ordered by the SHA-256 of their
clips' names: as fixed and as random, but **not the rows of CL-MASR**; a note says so for every set.

CL-MASR's text lacks apostrophes, which scoring cannot bring back: `text=corpus` keeps the
sentences of the same rows as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from espnet_blora.data import audio
from espnet_blora.data.corpora import tables
from espnet_blora.data.corpora.common import (
    choice,
    drop_long,
    existing,
    find_root,
    hash_order,
    header_seconds,
    keep,
    language_folder,
    positive_number,
    prompt_code,
    whole_recording,
)
from espnet_blora.data.records import Corpus, Expected, Ledger, Utterance

log = logging.getLogger(__name__)

_SECONDS = {"train": 36000.0, "dev": 3600.0, "test": 3600.0}
_LONGEST = 200  # characters
_CLEANING = str.maketrans({**dict.fromkeys(",'’`", " "), '"': "", "$": "S"})
OTHER_ROWS = "not CL-MASR's rows: random_idxes=FILE was not given"
_SETS = {"train": Expected(), "dev": Expected(), "test": Expected()}
_NEEDED = ("client_id", "path", "sentence")
_SPEAKER_DIGITS = 16  # of the 128 hexadecimal digits that name a speaker


def draw_cl_masr(
    rows: Sequence[tables.Row],
    name: str,
    folder: Path,
    options: Mapping[str, str],
    ledger: Ledger,
) -> list[tables.Row]:
    """Return the rows of a set that belong to CL-MASR's part, in the order of the draw.

    Rows whose cleaned sentence is empty or too long are listed in the ledger, as are clips of
    unknown length (these count as 0 s).

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: The list or an option is malformed.
    """
    hours = positive_number(options, "hours") if name == "train" else None
    limit = _SECONDS[name] if hours is None else hours * 3600
    cleaning = choice(options, "text", ("cl_masr", "corpus")) == "cl_masr"
    durations = listed_durations(folder)
    kept, total = [], 0.0
    for row in _in_order(rows, folder / f"{name}.tsv", options.get("random_idxes"), ledger):
        if total > limit:
            break
        where, fields = row
        clip = fields["path"]
        seconds = durations.get(clip)
        if seconds is None:
            seconds = _look(where, folder / "clips" / clip, ledger)
        total += seconds
        cleaned = " ".join(fields["sentence"].translate(_CLEANING).split())
        if not cleaned:
            ledger.skip(where, Path(clip).stem, "empty after cleaning", fields["sentence"])
        elif len(cleaned) > _LONGEST:
            ledger.skip(where, Path(clip).stem, f"longer than {_LONGEST} characters")
        else:
            kept.append(tables.Row(where, fields | {"sentence": cleaned}) if cleaning else row)
    return kept


def _in_order(
    rows: Sequence[tables.Row], table: Path, indices: str | None, ledger: Ledger
) -> Iterator[tables.Row]:
    """Yield the rows in the order of the draw: the list's, or one by hash."""
    if indices:
        yield from _listed(rows, table, Path(indices))
        return
    log.warning(f"{table}: {OTHER_ROWS}; figures do not compare with the published ones")
    ledger.note(str(table), "", OTHER_ROWS)
    yield from sorted(rows, key=lambda row: hash_order(row.fields["path"]))


def _listed(rows: Sequence[tables.Row], table: Path, indices: Path) -> Iterator[tables.Row]:
    """Yield rows by the list of their numbers, as long as it has some and rows are left.

    Raises:
        ValueError: The list is malformed, holds a number twice, or ends too early.
    """
    taken = set()
    for where, line in tables.lines(indices):
        if not line.strip().isdecimal():
            raise ValueError(f"{where}: {line!r}; expected a row number, from 0")
        index = int(line)
        if index in taken:
            raise ValueError(f"{where}: row {index} is in the list already")
        if index < len(rows):
            taken.add(index)
            yield rows[index]
            if len(taken) == len(rows):
                return
    raise ValueError(
        f"{indices}: ends with {len(taken)} rows drawn of the {len(rows)} that {table} has; "
        "CL-MASR's list has 2,000,000 numbers: fetch it again"
    )


def listed_durations(folder: Path) -> dict[str, float]:
    """Return the seconds of every clip by `clip_durations.tsv`; releases from 16.1 on have it."""
    table = folder / "clip_durations.tsv"
    if not table.is_file():
        return {}
    durations = {}
    for where, row in tables.tsv(table, ("clip", "duration[ms]")):
        duration = row["duration[ms]"]
        if not duration.strip().isdecimal():
            raise ValueError(f"{where}: duration {duration!r}; expected milliseconds")
        durations[row["clip"]] = int(duration) / 1000
    return durations


def _look(where: str, clip: Path, ledger: Ledger) -> float:
    """Return the seconds of a clip by its header; 0 and a note if that cannot be read."""
    try:
        return audio.duration(clip)
    except (FileNotFoundError, ValueError) as error:
        ledger.note(where, clip.stem, "unknown duration", str(error))
        return 0.0


def find(path: Path) -> Path:
    """Return the release's folder, which holds those of the locales.

    `path` may be the release, its parent if it holds one release, or one locale.

    Raises:
        FileNotFoundError: There is no release, or there are several; names them.
    """
    if (path / "test.tsv").is_file():
        return path.resolve().parent
    releases = sorted(path.glob("cv-corpus-*/")) if path.is_dir() else []
    if len(releases) > 1:
        raise FileNotFoundError(
            f"{path}: holds several releases: {', '.join(r.name for r in releases)}; give the "
            "folder of one, for their splits differ"
        )
    return find_root(
        path, ["*/test.tsv"], ("", "cv-corpus-*"), "give the unpacked cv-corpus-<version>-<date>"
    )


def read(
    root: Path, names: Sequence[str], ledger: Ledger, options: Mapping[str, str]
) -> dict[str, list[Utterance]]:
    """Read sets of one locale in the order of their tables.

    Left out and listed: rows without sentence, a clip that is listed again, and clips longer than
    option `max_seconds`.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A row has too few or too many fields (names file and line), or an option is
            missing or unknown.
    """
    folder = language_folder(root, "locale", options)
    language = prompt_code(folder.name, options.get("language"))
    validated = choice(options, "train", ("train", "validated")) == "validated"
    subset = choice(options, "subset", ("all", "cl_masr")) == "cl_masr"
    longest = positive_number(options, "max_seconds")
    durations = listed_durations(folder) if longest else {}
    read_sets = {}
    for name in names:
        rows = list(_rows(folder, name, validated))
        if subset:
            rows = draw_cl_masr(rows, name, folder, options, ledger)
        utterances = _utterances(rows, folder / "clips", language, ledger)
        read_sets[name] = drop_long(
            utterances, longest, ledger, lambda p: durations.get(p.name) or header_seconds(p)
        )
    return read_sets


def _table(folder: Path, name: str) -> Iterable[tables.Row]:
    table = existing(folder / f"{name}.tsv", "fetch the whole archive of the locale")
    return tables.tsv(table, _NEEDED)


def _rows(folder: Path, name: str, validated: bool) -> Iterator[tables.Row]:
    """Yield the rows of a set; `train` may be all of `validated` that is in no other set."""
    if name != "train" or not validated:
        yield from _table(folder, name)
        return
    held_out = {row.fields["path"] for held in ("dev", "test") for row in _table(folder, held)}
    for row in _table(folder, "validated"):
        if row.fields["path"] not in held_out:
            yield row


def _utterances(
    rows: Iterable[tables.Row], clips: Path, language: str, ledger: Ledger
) -> list[Utterance]:
    utterances = []
    seen: set[str] = set()
    for where, row in rows:
        clip = clips / row["path"]
        speaker = row["client_id"][:_SPEAKER_DIGITS] or clip.stem
        utterance = whole_recording(speaker, clip.stem, language, row["sentence"], clip, where)
        if utterance.id in seen:
            ledger.skip(where, utterance.id, "listed twice")
            continue
        seen.add(utterance.id)
        utterances += keep(utterance, ledger)
    return utterances


CORPUS = Corpus(
    name="commonvoice",
    title="Common Voice, read sentences in many languages",
    variable="COMMONVOICE",
    licence="CC0",
    obtain="mozilladatacollective.com: the archives of the locales, unpacked",
    sets=_SETS,
    languages=(),  # any: a language may be added to Whisper's
    options={
        "locale": "folder of the language, as zh-CN; needed if there are several",
        "language": "Whisper's code for the prompt, where the locale does not tell",
        "train": "train (default): train.tsv; validated: validated.tsv without dev and test",
        "max_seconds": "leave out clips that last longer (CL-MASR: 10)",
        "subset": "all (default), or cl_masr: CL-MASR's 10 h, 1 h and 1 h",
        "random_idxes": "with subset=cl_masr: CL-MASR's random_idxes.txt; without it other rows",
        "hours": "with subset=cl_masr: hours of the training set (default 10), as 0.5",
        "text": "with subset=cl_masr: cl_masr (default) removes commas and apostrophes; "
        "corpus: as is",
    },
    find=find,
    read=read,
)
