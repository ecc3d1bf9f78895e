"""Your own speech: a Kaldi directory, a table of files and texts, or text files beside audio files.

* A Kaldi directory: `wav.scp` and `text`; optionally `segments`, `utt2spk`, `utt2lang`.
* A table `transcripts.tsv` or `.csv`: `file, text[, language[, speaker]]`, in that order or
  with a header, files relative to the table; or `.jsonl`, an object with such keys per line.
  `offset` and `duration` in seconds, as NeMo has them, name parts of recordings.
  `metadata.csv` and `.jsonl` of Hugging Face's audiofolder are such tables.
* A folder with such directories or tables in `train`, `valid` (`dev`, `validation`) and `test`
  (`eval`), which are the sets.
* A folder of audio files, each with `<stem>.txt` beside it, folders in it included.

Data without sets is split into train, valid and test. If the speaker of every utterance is known,
no speaker occurs in two of them. The split depends on names and `seed` alone.
"""

from __future__ import annotations

import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from espnet_blora.data.corpora.common import (
    WHISPER_CODES,
    choice,
    header_lengths,
    part_size,
    single_blanks,
    speaker_name,
    utterance_id,
    whisper_code,
)
from espnet_blora.data.corpora.custom_forms import (
    TABLES,
    Raw,
    form_of,
    other_tables,
    read_form,
    split_folders,
)
from espnet_blora.data.joining import UNKNOWN
from espnet_blora.data.records import Corpus, Expected, Item, Ledger, Utterance
from espnet_blora.text.tokens import unspaced
from espnet_blora.utils.keyed import c_sorted
from espnet_blora.utils.mistakes import near_misses

_PARTS = ("test", "valid")  # drawn in this order; the rest is train
_DEFAULT = "10%"
_NAMES = {"chinese": "zh", "mandarin": "zh", "spanish": "es", "german": "de", "deutsch": "de"}
_MOST_HELD = 0.5  # a set with a larger share of all utterances gets a note


@dataclass(frozen=True)
class _Settings:
    language: str
    valid: str
    test: str
    seed: int
    speaker: str

    @classmethod
    def of(cls, options: Mapping[str, str]) -> _Settings:
        """Read the user's options; ValueError for a wrong one."""
        seed = options.get("seed", "0")
        if not (seed.isascii() and seed.isdecimal()):
            raise ValueError(f"seed={seed}: a whole number is expected")
        language = options.get("language", "")
        return cls(
            _code(language, "language") if language else "",
            options.get("valid", _DEFAULT),
            options.get("test", _DEFAULT),
            int(seed),
            choice(options, "speaker", ("named", "folder")),
        )


def _code(tag: str, where: str) -> str:
    """Return Whisper's code of a language tag; ValueError with near misses if there is none."""
    code = whisper_code(tag)
    if code is None:
        tag = tag.strip().lower()
        likely = [_NAMES.get(tag, tag[:2]), *near_misses(tag, WHISPER_CODES, 2)]
        near = dict.fromkeys(code for code in likely if code in WHISPER_CODES)
        meant = f"; did you mean {' or '.join(near)}?" if near else "."
        if " " in tag:
            meant = "; if it belongs to the text, put the text in double quotes."
        raise ValueError(
            f"{where}: {tag!r} is not a language code of Whisper's{meant} "
            f"There are: {', '.join(WHISPER_CODES)}"
        )
    return code


def find(path: Path) -> Path:
    """Return the path itself if it has one of the forms.

    Raises:
        FileNotFoundError: It has none of the forms; says what was looked for.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    form = form_of(path)
    named = other_tables(path) if form in ("", "files") else []
    if not form or (named and next(path.rglob("*.txt"), None) is None):
        meant = f"; if {named[0]} is the table, give its path or rename it" if named else ""
        raise FileNotFoundError(
            f"{path}: holds no speech in a form that is known: a Kaldi directory (wav.scp and "
            "text), three of them or of tables called train, valid and test, "
            f"{' or '.join(TABLES)} (file, text), or audio files with <stem>.txt beside each{meant}"
        )
    return path


def _utterances(root: Path, settings: _Settings, ledger: Ledger) -> dict[str, Utterance]:
    """Return all utterances by id, in order of id."""
    # Names in ASCII, for all at once, so that none collide.
    made: dict[str, Utterance] = {}
    renamed: list[str] = []
    raws = read_form(root, ledger)
    if settings.speaker == "folder":
        raws = _by_folder(root, raws)
    speakers = _ascii({raw.speaker for raw in raws}, speaker_name) | {"": UNKNOWN}
    names = _ascii(
        {raw.name for raw in raws}, lambda name: utterance_id("", name.replace("/", "_"))
    )
    # Text, language and id of each.
    for raw in raws:
        text = unspaced(single_blanks(raw.text))
        if not text:
            ledger.skip(raw.where, raw.name, "empty text")
            continue
        if raw.language:
            language = _code(raw.language, raw.where)
        elif settings.language:
            language = settings.language
        else:
            raise ValueError(
                f"{raw.where}: {raw.name} has no language, and Whisper must be told one: give "
                "language=<code> (zh, en, ...) for all"
            )
        speaker = speakers[raw.speaker]
        rest = names[raw.name]
        if raw.speaker and rest.startswith(f"-{raw.speaker}-"):
            rest = rest.removeprefix(f"-{raw.speaker}")
        id = speaker + rest
        if id != raw.name:
            renamed.append(f"{raw.name} -> {id}")
        if id in made:
            raise ValueError(
                f"{raw.where}: {raw.name!r} gives the id {id!r}, as does {made[id].where}; rename "
                "one of the two"
            )
        made[id] = Utterance(
            id=id,
            speaker=speaker,
            language=language,
            text=text,
            audio=raw.audio,
            start=raw.start,
            end=raw.end,
            where=raw.where,
        )
    # Was anything usable?
    if renamed:
        ledger.note(str(root), "", "ids renamed to <speaker>-<name> in ASCII", renamed[0])
    if not made:
        reasons = ", ".join(f"{reason} ({n})" for reason, n in ledger.counts().items())
        first = f"; the first: {' '.join(ledger.skips[0])}" if ledger.skips else ""
        raise ValueError(f"{root}: no utterance can be used: {reasons or 'none is there'}{first}")
    if not any(u.audio.is_file() for u in made.values()):
        lost = next(iter(made.values()))
        raise ValueError(
            f"{lost.where}: {lost.audio} is not there, nor is any other of {len(made)} audio "
            "files; paths are relative to the file that names them"
        )
    return {id: made[id] for id in c_sorted(made)}


def _by_folder(root: Path, raws: Sequence[Raw]) -> list[Raw]:
    """Return utterances whose speaker, where none is named, is the first folder of their name.

    In a table it is the first folder below the one that all its files share.
    """
    if form_of(root) == "kaldi":
        raise ValueError(f"{root}: speaker=folder is not for a Kaldi directory, which has utt2spk")
    folders = [raw.name.split("/")[:-1] for raw in raws]
    # what is common ends with the shortest path
    alike = (len(set(level)) == 1 for level in zip(*folders, strict=False))
    shared = sum(takewhile(bool, alike)) if form_of(root) == "table" else 0
    result = []
    for raw, parts in zip(raws, folders, strict=True):
        if not raw.speaker and len(parts) > shared:
            rest = "/".join(raw.name.split("/")[shared + 1 :])
            raw = replace(raw, speaker=parts[shared], name=rest)
        result.append(raw)
    return result


def _ascii(names: Iterable[str], plain: Callable[[str], str]) -> dict[str, str]:
    """Return name -> ASCII; names that would become the same, or empty, get a check sum."""
    ascii_names = {name: plain(name) for name in names}
    often = Counter(ascii_names.values())
    return {
        name: text
        if often[text] == 1 and re.search("[A-Za-z0-9]", text)
        else f"{text}_{zlib.crc32(name.encode('utf-8', 'surrogateescape')):08x}"
        for name, text in ascii_names.items()
    }


def _split(
    made: Mapping[str, Utterance], settings: _Settings, root: Path, ledger: Ledger
) -> dict[str, str]:
    """Return id -> set."""
    sizes = {part: part_size(getattr(settings, part), len(made), part) for part in _PARTS}
    if sum(sizes.values()) >= len(made):
        raise ValueError(
            f"valid={settings.valid} and test={settings.test} of {len(made)} utterances leave "
            "nothing to train on"
        )
    # Draw whole speakers if all are known and there are enough, else utterances.
    parts = [part for part in _PARTS if sizes[part]]
    counts = Counter(u.speaker for u in made.values())
    known = UNKNOWN not in counts
    rng = random.Random(settings.seed)
    if known and len(counts) > len(parts):
        where_is = _by_speaker(counts, {part: sizes[part] for part in parts}, rng)
        owners = {id: where_is.get(u.speaker, "train") for id, u in made.items()}
    else:
        ids = list(made)
        rng.shuffle(ids)
        owners = dict.fromkeys(ids, "train")
        for part in parts:
            chosen, ids = ids[: sizes[part]], ids[sizes[part] :]
            owners.update(dict.fromkeys(chosen, part))
        if parts:
            why = f"{len(counts)} speakers for {len(parts) + 1} sets" if known else "not all named"
            ledger.note(str(root), "", "split by utterance: speakers may be in two sets", why)
    # Say how far the sizes are from those asked for.
    counts = Counter(owners.values())
    for part in parts:
        if counts[part] != sizes[part]:
            detail = f"{part}: {counts[part]}, {sizes[part]} asked for"
            ledger.note(str(root), "", "whole speakers give another size than asked for", detail)
        if counts[part] > _MOST_HELD * len(made):
            detail = f"{part}: {counts[part]} of {len(made)}; name speakers, or give {part}=<count>"
            ledger.note(str(root), "", "a set holds more than half of all utterances", detail)
    return owners


def _by_speaker(
    counts: Mapping[str, int], sizes: Mapping[str, int], rng: random.Random
) -> dict[str, str]:
    """Return speaker -> part: speakers in random order that fit, at least the smallest one."""
    order = c_sorted(counts)
    rng.shuffle(order)
    chosen: dict[str, str] = {}
    for place, (part, size) in enumerate(sizes.items(), 1):
        spare = len(sizes) - place + 1  # speakers that the sets still to come need
        total = 0
        free = [speaker for speaker in order if speaker not in chosen]
        for speaker in free:
            fits = total + counts[speaker] <= size
            if fits and len(counts) - len(chosen) > spare:
                chosen[speaker] = part
                total += counts[speaker]
        if not total:
            chosen[min(free, key=lambda speaker: counts[speaker])] = part
    return chosen


def _divided(
    root: Path, settings: _Settings, ledger: Ledger
) -> tuple[dict[str, Utterance], dict[str, str]]:
    """Return all utterances by id, and the set of each: its folder, or drawn."""
    folders = split_folders(root)
    if form_of(root) != "splits":
        utterances = _utterances(root, settings, ledger)
        return utterances, _split(utterances, settings, root, ledger)
    # The folders are the sets: no utterance may be in two of them.
    made: dict[str, Utterance] = {}
    owners: dict[str, str] = {}
    for part, folder in folders.items():
        for id, utterance in _utterances(folder, settings, ledger).items():
            if id in made:
                raise ValueError(
                    f"{utterance.where}: {id!r} is in {owners[id]} too ({made[id].where}); an "
                    "utterance that is trained on must not be tested"
                )
            made[id], owners[id] = utterance, part
    speakers = {
        part: {u.speaker for id, u in made.items() if owners[id] == part} for part in folders
    }
    for part in _PARTS:
        both = (speakers["train"] & speakers[part]) - {UNKNOWN}
        if both:
            detail = f"{part}: {len(both)}, {c_sorted(both)[0]} among them"
            ledger.note(str(root), "", "speakers of train are in another set too", detail)
    return made, owners


def read(
    root: Path, sets: Sequence[str], ledger: Ledger, options: Mapping[str, str]
) -> dict[str, list[Utterance]]:
    """Read `sets`, each sorted by id.

    Raises:
        ValueError: The data or an option is wrong; names file and line, or the option.
    """
    settings = _Settings.of(options)
    made, owners = _divided(root, settings, ledger)
    result = {name: [u for id, u in made.items() if owners[id] == name] for name in sets}
    for name, utterances in result.items():
        if not utterances:
            raise ValueError(f"set {name} is empty: {name}={getattr(settings, name)}")
    return result


def inspect(root: Path, options: Mapping[str, str]) -> list[Item]:
    """Name the form, and count utterances, speakers, languages, hours and skips."""
    forms = {"kaldi": "Kaldi directory", "table": "table", "files": "text beside audio files"}
    forms["splits"] = "folders train, valid, test"
    items = [Item("form", forms[form_of(root)], "", None)]
    ledger = Ledger()
    try:
        settings = _Settings.of(options)
        made, divided = _divided(root, settings, ledger)
        owners = Counter(divided.values())
    except ValueError as error:
        return [*items, Item("utterances", f"cannot be used: {error}", "some", False)]
    for name in CORPUS.sets:
        items.append(Item(f"{name}: utterances", f"{owners[name]:,}", "", None))
    speakers = {u.speaker for u in made.values()} - {UNKNOWN}
    items.append(Item("speakers", str(len(speakers)) if speakers else "not named", "", None))
    languages = Counter(u.language for u in made.values())
    text = ", ".join(f"{code} {n:,}" for code, n in sorted(languages.items()))
    items.append(Item("languages", text, "", None))
    items.append(_audio(made))
    for what, count in (ledger.counts() | ledger.note_counts()).items():
        items.append(Item(what, f"{count:,}", "", None))
    return items


def _audio(made: Mapping[str, Utterance]) -> Item:
    """Return the hours from headers, and the first file that cannot be read."""
    lengths, bad = header_lengths(u.audio for u in made.values())
    seconds = sum(
        lengths[u.audio] if u.start is None or u.end is None else u.end - u.start
        for u in made.values()
    )
    text = f"{seconds / 3600:.2f}" + (f"; {len(bad)} cannot be read: {bad[0]}" if bad else "")
    return Item("hours", text, "", False if bad else None)


CORPUS = Corpus(
    name="custom",
    title="my own data",
    variable="CUSTOM",
    licence="yours",
    obtain="wav.scp and text; transcripts.tsv|csv|jsonl (file, text); audio files with <stem>.txt",
    sets={"train": Expected(), "valid": Expected(), "test": Expected()},
    languages=WHISPER_CODES,
    options={
        "language": "Whisper's code for every utterance that names none (zh, en, ...)",
        "valid": f"share or count of utterances for validation (default: {_DEFAULT})",
        "test": f"share or count of utterances for testing (default: {_DEFAULT})",
        "speaker": "folder: where none is named, an audio file's first folder (default: named)",
        "seed": "another number, another split (default: 0)",
    },
    find=find,
    read=read,
    inspect=inspect,
)
