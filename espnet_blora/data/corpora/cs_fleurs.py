"""CS-FLEURS: code-switched sentences in 113 language pairs, read or synthesised.

Layout: folders with a `metadata.jsonl` and an `audio` folder, `read/test`, `xtts/train` and
others; a set is named after its folder, `read_test`. All folders of a copy are searched, so sets
that this module does not know can be read too.

A pair (`ara-eng`) names the language of the sentence, then the one that is switched to; Whisper's
prompt is the first. Utterances whose first language Whisper lacks are left out and listed. Option
`pair` takes one pair; its name is then part of the data directory's,
`cs_fleurs_ara-eng_read_test`.

`train` and `valid` are `xtts_train`, the only set to train on, divided by the utterances' `id`
(option `valid`: how many ids, by default 5 %; their SHA-256 decides which ones), so that a sentence
that is read in several pairs under one id is on one side. `test` is `read_test`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_blora.data.corpora import tables
from espnet_blora.data.corpora.common import (
    WHISPER_CODES,
    SetAbsentError,
    find_root,
    hash_order,
    inspect_sets,
    keep,
    part_size,
    whisper_code,
    whole_recording,
)
from espnet_blora.data.records import Corpus, Expected, Item, Ledger, Utterance

_SOURCE = "CS-FLEURS paper (arXiv 2509.14161), all pairs"
_SETS = {
    "train": Expected(),
    "valid": Expected(),
    "test": Expected(None, 17, _SOURCE),
    "read_test": Expected(None, 17, _SOURCE),
    "xtts_train": Expected(None, 128, _SOURCE),
    "xtts_test1": Expected(None, 36, _SOURCE),
    "xtts_test2": Expected(None, 42, _SOURCE),
    "mms_test": Expected(None, 56, _SOURCE),
}
_OWN = {"train": "xtts_train", "valid": "xtts_train", "test": "read_test"}
_TABLE = "metadata.jsonl"
_NEEDED = ("id", "file_name", "text", "language", "speaker")


def find(path: Path) -> Path:
    """Return the folder below which the sets lie: `path` or `path/cs-fleurs`."""
    hint = "give the folder with read/ and xtts/, fetched with their metadata.jsonl"
    return find_root(path, [f"*/*/{_TABLE}"], ("", "cs-fleurs", "cs_fleurs"), hint)


def folders(root: Path) -> dict[str, Path]:
    """Return the folder of every set below `root`, sorted: `read/test` is `read_test`."""
    places = {}
    for folder, below, files in root.walk():
        below[:] = [name for name in below if name != "audio" and not name.startswith(".")]
        if _TABLE in files:
            places["_".join(folder.relative_to(root).parts) or "all"] = folder
    return dict(sorted(places.items()))


def read(
    root: Path, names: Sequence[str], ledger: Ledger, options: Mapping[str, str]
) -> dict[str, list[Utterance]]:
    """Read sets in the order of their tables, all pairs or the one that the options name.

    Left out and listed: utterances without text, and those of a language unknown to Whisper.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A line is not a JSON object with the needed keys or its language is not a pair
            (names file and line), or a set does not have the pair that is asked for.
    """
    places = folders(root)
    return {name: _read_named(root, places, name, ledger, options) for name in names}


def _read_named(
    root: Path, places: Mapping[str, Path], name: str, ledger: Ledger, options: Mapping[str, str]
) -> list[Utterance]:
    """Read one set; `train` and `valid` are parts of another."""
    source = _OWN.get(name, name)
    if source not in places:
        raise SetAbsentError(
            f"{root}: no folder of set {source}; there are: {', '.join(places) or 'none'}"
        )
    keyed = _read_set(places[source], options.get("pair"), ledger)
    if name not in ("train", "valid"):
        return [utterance for _, utterance in keyed]
    ids = sorted({key for key, _ in keyed}, key=hash_order)
    held_out = set(ids[: part_size(options.get("valid", "5%"), len(ids), "option valid")])
    return [utterance for key, utterance in keyed if (key in held_out) == (name == "valid")]


def _read_set(folder: Path, only: str | None, ledger: Ledger) -> list[tuple[str, Utterance]]:
    """Read a folder's utterances, of `only` one pair, with their ids in the table.

    Several pairs may share an id.
    """
    utterances = []
    pairs = set()
    for where, entry in tables.json_lines(folder / _TABLE, _NEEDED):
        pair = entry["language"]
        first, dash, second = pair.partition("-")
        if not (first and dash and second):
            raise ValueError(f"{where}: language {pair!r}; expected a pair such as ara-eng")
        pairs.add(pair)
        if only and pair != only:
            continue
        wave = folder / entry["file_name"]
        speaker = f"{pair}_{entry['speaker']}"
        language = whisper_code(first) or ""
        utterance = whole_recording(speaker, entry["id"], language, entry["text"], wave, where)
        if not language:
            ledger.skip(where, utterance.id, "language unknown to Whisper", pair)
            continue
        utterances += [(entry["id"], kept) for kept in keep(utterance, ledger)]
    if only and only not in pairs:
        raise ValueError(
            f"{folder}: no pair {only!r}; there are: {', '.join(sorted(pairs)) or 'none'}"
        )
    return utterances


def inspect(root: Path, options: Mapping[str, str]) -> list[Item]:
    """Count the usable utterances of each set that is known or there."""
    others = {name: Expected() for name in folders(root) if name not in _SETS}
    return inspect_sets(read, _SETS | others, root, options)


CORPUS = Corpus(
    name="cs_fleurs",
    title="CS-FLEURS, code-switched sentences in 113 language pairs",
    variable="CS_FLEURS",
    licence="see huggingface.co/datasets/byan/cs-fleurs",
    obtain="huggingface.co/datasets/byan/cs-fleurs, the files themselves (its viewer fails)",
    sets=_SETS,
    languages=WHISPER_CODES,
    options={
        "pair": "one pair of languages, as ara-eng (default: all)",
        "valid": "how many ids of xtts_train are valid: a share or a count (default 5%)",
    },
    find=find,
    read=read,
    inspect=inspect,
)
