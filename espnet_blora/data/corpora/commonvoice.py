"""Common Voice: read sentences in over a hundred languages, as MP3 of various rates.

Layout: `cv-corpus-<version>-<date>/<locale>/{train,dev,test,validated}.tsv` and `clips/`.
Columns are found by the header's names, because releases 13 and 17 inserted some; fields are never
quoted, for sentences hold single quotation marks. The splits change with every release: name the
release beside every figure.

One locale is read at a time (option `locale`); its name belongs into that of the data directory,
`commonvoice_zh-CN_test`. Sentences are kept as they are: case, punctuation, diacritics.

`train` is `train.tsv`; with `train=validated` it is all of `validated.tsv` that is neither
in `dev.tsv` nor in `test.tsv`, as in ESPnet's recipe. `subset=cl_masr` takes CL-MASR's part
of each set (`espnet_blora.data.corpora.commonvoice_subset`). `max_seconds` leaves out what
lasts longer, of every set, after CL-MASR's part was drawn, as its programs do (10 s).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from espnet_blora.data.corpora import asked, limits, tables
from espnet_blora.data.corpora import commonvoice_subset as cl_masr
from espnet_blora.data.corpora.files import choice
from espnet_blora.data.corpora.inspection import inspect_sets
from espnet_blora.data.corpora.kept import keep
from espnet_blora.data.corpora.languages import prompt_code
from espnet_blora.data.corpora.letters import single_blanks, speaker_name, utterance_id
from espnet_blora.data.records import Corpus, Expected, Ledger, Utterance
from espnet_blora.text.tokens import unspaced

_SETS = {"train": Expected(), "dev": Expected(), "test": Expected()}
_NEEDED = ("client_id", "path", "sentence")
_SPEAKER_DIGITS = 16  # of the 128 hexadecimal digits that name a speaker


def find(path: Path) -> Path:
    """Return the release's folder, which holds those of the locales.

    `path` may be the release, its parent if it holds one release, or one locale.

    Raises: FileNotFoundError, also naming the releases if there are several.
    """
    path = Path(path)
    if (path / "test.tsv").is_file():
        return path.resolve().parent
    releases = sorted(path.glob("cv-corpus-*/")) if path.is_dir() else []
    if len(releases) > 1:
        raise FileNotFoundError(
            f"{path}: holds several releases: {', '.join(r.name for r in releases)}; give the "
            "folder of one, for their splits differ"
        )
    return asked.find_root(
        path, ["*/test.tsv"], ("", "cv-corpus-*"), "give the unpacked cv-corpus-<version>-<date>"
    )


def read(
    root: Path, names: Sequence[str], ledger: Ledger, options: Mapping[str, str]
) -> dict[str, list[Utterance]]:
    """Read sets of one locale in the order of their tables.

    Left out and listed: rows without sentence, a clip that is listed again, and clips longer than
    option `max_seconds`.

    Raises: FileNotFoundError; ValueError with file:line for a row with too few or many fields, and
    for an option that is missing or unknown.
    """
    asked.check_sets("commonvoice", names, _SETS)
    folder = asked.language_folder(root, "locale", options)
    language = prompt_code(folder.name, options.get("language"))
    validated = choice(options, "train", ("train", "validated")) == "validated"
    subset = choice(options, "subset", ("all", "cl_masr")) == "cl_masr"
    longest = limits.positive(options, "max_seconds")
    told = cl_masr.told_durations(folder) if longest else {}
    read_sets = {}
    for name in names:
        rows = list(_rows(folder, name, validated))
        if subset:
            rows = cl_masr.draw(rows, name, folder, options, ledger)
        utterances = _utterances(rows, folder / "clips", language, ledger)
        read_sets[name] = limits.drop_long(
            utterances, longest, ledger, lambda p: told.get(p.name) or limits.header_seconds(p)
        )
    return read_sets


def _table(folder: Path, name: str) -> Iterable[tables.Row]:
    table = asked.present(folder / f"{name}.tsv", "fetch the whole archive of the locale")
    return tables.tsv(table, _NEEDED)


def _rows(folder: Path, name: str, validated: bool) -> Iterator[tables.Row]:
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
        speaker = speaker_name(row["client_id"][:_SPEAKER_DIGITS] or clip.stem)
        id = utterance_id(speaker, clip.stem)
        text = unspaced(single_blanks(row["sentence"]))
        if id in seen:
            ledger.skip(where, id, "listed twice")
            continue
        seen.add(id)
        utterances += keep(Utterance(id, speaker, language, text, clip, where=where), ledger)
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
        **cl_masr.OPTIONS,
    },
    find=find,
    read=read,
    inspect=partial(inspect_sets, read, _SETS),
)
