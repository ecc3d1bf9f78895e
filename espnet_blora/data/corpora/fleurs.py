"""FLEURS: sentences of Wikipedia read in 102 languages, 16 kHz.

Layout: `data/<lang>/{train,dev,test}.tsv` without header, and the waves in
`data/<lang>/audio/<set>/` or still packed as `data/<lang>/audio/<set>.tar.gz`, which is then
unpacked (option `unpack=DIR` where the copy cannot be written to).

The first field is the number of a *sentence*, shared by up to three recordings; the wave's name is
the unique key. Speakers are not named: every recording counts as a speaker of its own, and its id
is `<wave>-<sentence>`. Some recordings break off within a second although the text is complete.
`train` leaves them out; `dev` and `test` keep and note them, as they count in everybody's figures
(option `truncated=skip|keep` for all sets).

Text is the raw transcription, with case and punctuation as Whisper writes them;
`text=normalised` takes the normalised one. Odd blanks become plain ones.

`max_seconds` leaves out longer recordings, `hours` and `test_hours` take a part of `train`, and of
`dev` and `test`: DAMA (arXiv 2602.01008) has 30 s, 10 h and 1 h. Which recordings it took is not
known; here their order is fixed by their names.
"""

from __future__ import annotations

import shutil
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from espnet_blora.data.corpora import tables
from espnet_blora.data.corpora.common import (
    choice,
    draw_hours,
    drop_long,
    existing,
    find_root,
    header_seconds,
    inspect_sets,
    keep,
    language_folder,
    positive_number,
    prompt_code,
    whole_recording,
)
from espnet_blora.data.records import Corpus, Expected, Ledger, Utterance
from espnet_blora.text.tokens import mixed_tokens
from espnet_blora.utils import atomic

_SETS = {"train": Expected(), "dev": Expected(), "test": Expected()}
_COLUMNS = (
    "sentence number",
    "file name",
    "raw transcription",
    "transcription",
    "characters",
    "number of samples",
    "gender",
)
_TEXTS = {"raw": "raw transcription", "normalised": "transcription"}
_SHORT, _WORDS = 1.0, 5  # a recording below so many seconds with more words (or Han) breaks off


def find(path: Path) -> Path:
    """Return the folder that holds those of the languages: `path` or `path/data`."""
    if (path / "test.tsv").is_file():
        return path.resolve().parent
    hint = "give the folder data of google/fleurs, which holds en_us/test.tsv and the like"
    return find_root(path, ["*/test.tsv"], ("", "data", "fleurs/data", "fleurs"), hint)


def read(
    root: Path,
    names: Sequence[str],
    ledger: Ledger,
    options: Mapping[str, str],
    unpack: bool = True,
) -> dict[str, list[Utterance]]:
    """Read sets of one language (option `lang`) in the order of their tables.

    Waves that are still packed are unpacked first, or with `unpack=False` an error. Left out and
    listed: rows without text, a wave that is listed again, (`train`) truncated recordings, and
    those longer than option `max_seconds`.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A row does not have 7 fields (names file and line), an option is missing or
            unknown, or an archive is damaged.
    """
    folder = language_folder(root, "lang", options)
    language = prompt_code(folder.name, options.get("language"))
    column = _TEXTS[choice(options, "text", tuple(_TEXTS))]
    # Options of the user.
    truncated = choice(options, "truncated", ("by set", "skip", "keep"))
    longest = positive_number(options, "max_seconds")
    hours = {name: positive_number(options, "test_hours") for name in _SETS}
    hours["train"] = positive_number(options, "hours")
    read_sets = {}
    for name in names:
        table = existing(folder / f"{name}.tsv", "fetch it beside the others")
        waves = _waves(folder, name, options, unpack)
        skip = truncated == "skip" or (truncated == "by set" and name == "train")
        utterances = _utterances(table, waves, language, column, skip, ledger)
        short = drop_long(utterances, longest, ledger)
        read_sets[name] = draw_hours(short, hours[name], str(table), ledger)
    return read_sets


def _utterances(
    table: Path, waves: Path, language: str, column: str, skip_truncated: bool, ledger: Ledger
) -> list[Utterance]:
    utterances = []
    seen: set[str] = set()
    for where, row in tables.tsv(table, columns=_COLUMNS):
        wave = waves / row["file name"]
        number = row["sentence number"]
        utterance = whole_recording(wave.stem, number, language, row[column], wave, where)
        if wave.name in seen:
            ledger.skip(where, utterance.id, "listed twice")
            continue
        seen.add(wave.name)
        for kept in keep(utterance, ledger):
            if not (_truncated(kept, skip_truncated, ledger) and skip_truncated):
                utterances.append(kept)
    return utterances


def _truncated(utterance: Utterance, skip: bool, ledger: Ledger) -> bool:
    """Tell whether a recording breaks off, and list it as skipped or noted."""
    text = utterance.text
    seconds = header_seconds(utterance.audio)
    if seconds is None or seconds >= _SHORT or len(mixed_tokens(text)) <= _WORDS:
        return False
    record = ledger.skip if skip else ledger.note
    record(utterance.where, utterance.id, "truncated recording", f"{seconds:.2f} s for {text!r}")
    return True


def _waves(folder: Path, name: str, options: Mapping[str, str], unpack: bool) -> Path:
    """Return the folder of a set's waves; packed ones are unpacked first."""
    beside = folder / "audio" / name
    if beside.is_dir():
        return beside
    archive = folder / "audio" / f"{name}.tar.gz"
    if not archive.is_file():
        raise FileNotFoundError(f"{beside}: no such directory, nor is {archive.name} beside it")
    target = Path(options["unpack"]) / folder.name / name if options.get("unpack") else beside
    if not target.is_dir():
        if not unpack:
            raise FileNotFoundError(f"{archive}: still packed; it is unpacked when it is read")
        _unpack(archive, target)
    return target


def _unpack(archive: Path, target: Path) -> None:
    """Unpack the waves of an archive, all into one folder, which appears whole or not at all.

    Only plain files are taken, by the last part of their names, so that nothing in an archive can
    write elsewhere.
    """
    try:
        with atomic.new_folder(target) as part, tarfile.open(archive, "r|gz") as packed:
            for member in packed:
                content = packed.extractfile(member) if member.isreg() else None
                name = Path(member.name).name
                if content is not None and name.lower().endswith(".wav"):
                    with (part / name).open("wb") as wave:
                        shutil.copyfileobj(content, wave)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{archive}: damaged archive ({error}); fetch it again") from error
    except OSError as error:
        raise OSError(
            f"{archive}: could not be unpacked into {target}: {error}; give a folder that can be "
            "written to, with room for the waves, as option unpack=DIR"
        ) from error


CORPUS = Corpus(
    name="fleurs",
    title="FLEURS, read sentences in 102 languages",
    variable="FLEURS",
    licence="CC BY 4.0",
    obtain="huggingface.co/datasets/google/fleurs: data/<lang>, tables and audio",
    sets=_SETS,
    languages=(),  # any: a language may be added to Whisper's
    options={
        "lang": "folder of the language, as cmn_hans_cn; needed if there are several",
        "language": "Whisper's code for the prompt, where the folder does not tell",
        "text": "raw (default): with case and punctuation; normalised: without",
        "truncated": "recordings that break off: skip or keep (default: skip in train alone)",
        "max_seconds": "leave out recordings that last longer (DAMA: 30)",
        "hours": "hours of train to take, as 0.5",
        "test_hours": "hours of dev and of test to take (DAMA: 1)",
        "unpack": "folder for the waves, if the audio is packed and cannot be unpacked beside",
    },
    find=find,
    read=read,
    inspect=partial(inspect_sets, partial(read, unpack=False), _SETS),
)
