"""ArzEn (`ArzEn_SpeechCorpus_1.0`): Egyptian Arabic-English interviews, in a Kaldi-like layout.

`ASR_files` holds `segments`, `text`, `utt2spk` and a `wav.scp` with paths of the authors'
machine; the audio is in `recordings`, the lists of recordings per set in `splits`. The name of a
recording is taken from `segments` and never assembled from parts of an id.

Marks of the transcription are removed in an order that matters: first complete marks (`[HES]`,
`(LAUGHTER)`, `%word`), then the signs that marks consist of (`// = # @ $ + *`), then, as an option,
punctuation. In another order `[HES]` would become a word. `c++`, `c#` and `f#` are words and
survive every step.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_blora.data.corpora.common import (
    by_stem,
    choice,
    compare_counts,
    single_blanks,
)
from espnet_blora.data.corpora.tables import lines
from espnet_blora.data.kaldi import Segment, parse_segment
from espnet_blora.data.records import Corpus, Expected, Item, Ledger, Utterance
from espnet_blora.text import Normalisation
from espnet_blora.utils.keyed import KeyedText, read_keyed

_NAMES = "HES|LAUGHTER|LAUGH|COUGH|NOISE|HUM|BREATH"
# In upper case one bracket may be missing; a name without any is a word ("noise").
_NOISE = re.compile(
    rf"[\[(]\s*(?i:{_NAMES})\s*[\])]|[\[(]\s*(?:{_NAMES})\b|(?<!\w)(?:{_NAMES})\s*[\])]"
)
_UNKNOWN = re.compile(r"\[[^\[\]]*\]")
_FILLER = re.compile(r"%#?(\w*)")
_SIGNS = re.compile(r"//+|\(\(|\)\)|[=#@$+*%\u2026\[\]]")
_WORDS_WITH_SIGNS = re.compile(r"(?<![A-Za-z])(?:c\+\+|[cf]#(?!\w))", re.IGNORECASE)
# Private use characters stand for the signs that stay: no step of `clean` touches them.
_STAYING, _PRIVATE = "+#", "\ue000\ue001"
_HIDE, _SHOW = str.maketrans(_STAYING, _PRIVATE), str.maketrans(_PRIVATE, _STAYING)
_NO_PRIVATE = str.maketrans("", "", _PRIVATE)
# Short vowels, shadda, sukun, tanween, dagger alef: what CAMeL's dediac_ar deletes; and tatweel,
# which some of its releases count among them.
_DIACRITICS = re.compile("[\u064b-\u0652\u0670\u0640]")
_NO_PUNCTUATION = Normalisation("no punctuation", punctuation=False)
_STRAY_BLANK = re.compile(r"\s+([.,?!:;\u060c\u061b\u061f])(?=\s|$)")
_INSIDE = "ArzEn_SpeechCorpus_1.0"
_NEEDED = ("recordings", "ASR_files", "splits")
_FILE = re.compile(r"([^/\\\s]+)\.(?:wav|flac|sph)\b", re.IGNORECASE)  # in a line of wav.scp
_SOURCE = "summary of the ArzEn-ST paper (LREC 2022)"
SETS = {
    "train": Expected(3344, None, _SOURCE),
    "dev": Expected(1402, None, _SOURCE),
    "test": Expected(1470, None, _SOURCE),
}


def unknown_marks(text: str) -> list[str]:
    """Return unknown marks in square brackets; `clean` deletes them like the known ones."""
    return _UNKNOWN.findall(_NOISE.sub(" ", text))


def clean(
    text: str, *, punctuation: bool = True, diacritics: bool = False, fillers: bool = False
) -> str:
    """Return what was said, without the marks of the transcription.

    Words in `(( ))` stay; the text comes back in NFC with single blanks. Scoring can still remove
    punctuation and diacritics that are kept here, but not bring back fillers that are left out.

    Args:
        text: The transcript.
        punctuation: Keep Arabic and Latin punctuation; else all punctuation and symbols are
            removed, except an apostrophe between two letters and `c++`, `c#`, `f#`.
        diacritics: Keep short vowels and tatweel; else they are removed, as the corpus's own
            systems and those of BLoRA's authors were trained ("الـ project" becomes "ال project").
        fillers: Keep the word of `%word` and `%#word`; else it is removed, as `[HES]` is.
    """
    text = text.translate(_NO_PRIVATE)
    text = single_blanks(unicodedata.normalize("NFC", text))
    if not diacritics:
        text = _DIACRITICS.sub("", text)
    text = _NOISE.sub(" ", text)
    text = _UNKNOWN.sub(" ", text)
    text = _FILLER.sub(r" \1 " if fillers else " ", text)
    text = _WORDS_WITH_SIGNS.sub(lambda word: word[0].translate(_HIDE), text)
    text = _SIGNS.sub(" ", text)
    if not punctuation:
        text = _NO_PUNCTUATION(text)
    text = " ".join(text.translate(_SHOW).split())
    # what stood before a full stop may just have gone
    text = _STRAY_BLANK.sub(r"\1", text)
    return text if any(char.isalnum() for char in text) else ""


def find(root: Path) -> Path:
    """Return the folder with `recordings`, `ASR_files` and `splits`: the user's or one in it.

    Raises:
        FileNotFoundError: There is no such folder; names what each place lacks.
    """
    looked = []
    for folder in (root, root / _INSIDE):
        lacking = [name for name in _NEEDED if not (folder / name).is_dir()]
        if not lacking:
            return folder
        looked.append(f"{folder} (lacks {', '.join(lacking)})")
    raise FileNotFoundError(
        f"no ArzEn there: looked for the folders {', '.join(_NEEDED)} in {'; '.join(looked)}. "
        f"Give the unpacked {_INSIDE}"
    )


def read(
    root: Path, names: Sequence[str], ledger: Ledger, options: Mapping[str, str]
) -> dict[str, list[Utterance]]:
    """Read the sets `names`, each in the order of `segments`.

    Raises:
        FileNotFoundError: A table is not there.
        ValueError: A table is malformed, or two sets claim a recording; names file and line, or the
            id.
    """
    # Options of the user.
    keep_punctuation = choice(options, "punctuation", ("keep", "remove")) == "keep"
    keep_diacritics = choice(options, "diacritics", ("remove", "keep")) == "keep"
    keep_fillers = choice(options, "fillers", ("remove", "keep")) == "keep"
    # The tables, and the set and audio of every recording.
    tables = root / "ASR_files"
    texts, speakers = KeyedText(tables / "text"), read_keyed(tables / "utt2spk")
    segments = _segments(tables / "segments")
    recordings = list(dict.fromkeys(segment.recording for segment in segments.values()))
    owner = _owners(root, recordings, ledger)
    audio = _audio(root, recordings)
    # The segments whose recording belongs to a set that is wanted.
    result: dict[str, list[Utterance]] = {name: [] for name in names}
    for key in texts:
        if key not in segments:
            ledger.skip(texts.where(key), key, "no segment")
    for key, (recording, start, end, where) in segments.items():
        name = owner.get(recording)
        if name is None:
            ledger.skip(where, key, "recording in no split", recording)
        if name not in result:
            continue
        if key not in texts:
            ledger.skip(where, key, "no text")
            continue
        if not 0 <= start < end:
            ledger.skip(where, key, "no time between start and end", f"{start}-{end} s")
            continue
        raw = texts[key]
        text = clean(
            raw, punctuation=keep_punctuation, diacritics=keep_diacritics, fillers=keep_fillers
        )
        if not text:
            ledger.skip(where, key, "empty after cleaning", raw)
            continue
        if marks := unknown_marks(raw):
            ledger.note(where, key, "unknown mark left out", " ".join(marks))
        # An id begins with its speaker.
        speaker = speakers.get(key)
        if not speaker:
            speaker = key.partition("-")[0]
            ledger.note(where, key, "speaker taken from the id", speaker)
        id = key if key.startswith(f"{speaker}-") else f"{speaker}-{key}"
        path = audio.get(recording, root / "recordings" / f"{recording}.WAV")
        result[name].append(Utterance(id, speaker, "ar", text, path, start, end, where=where))
    if "st_dir" in options:
        for item in _compare_st(Path(options["st_dir"]), segments, owner):
            if not item.ok:
                ledger.note(options["st_dir"], item.what, item.found, item.expected)
    return result


def _segments(path: Path) -> dict[str, Segment]:
    """Read `segments`: utterance -> recording and times."""
    table = KeyedText(path)
    return {key: parse_segment(table.where(key), key, table[key]) for key in table}


def _core(recording: str) -> str:
    """Return `C09-R90` of `S90-C09-R90`: the part of a name that all spellings share."""
    match = re.search(r"C\d+-R\d+", recording)
    return match[0] if match else recording


def _owners(root: Path, recordings: Sequence[str], ledger: Ledger) -> dict[str, str]:
    """Return recording as `segments` spells it -> set."""
    cores: dict[str, list[str]] = {}
    for recording in recordings:
        cores.setdefault(_core(recording), []).append(recording)
    # Lists may spell a recording otherwise than `segments`.
    known = set(recordings)
    owner: dict[str, str] = {}
    for name in SETS:
        path = root / "splits" / name
        for where, line in lines(path):
            listed = re.sub(r"\.wav$", "", line.strip(), flags=re.IGNORECASE)
            if not listed:
                continue
            if len(listed.split()) > 1:
                raise ValueError(f"{where}: {line!r}; expected one recording id per line")
            meant = [listed] if listed in known else cores.get(_core(listed), [])
            if not meant:
                ledger.note(where, listed, "recording without utterances")
            elif meant != [listed]:
                spelt = " ".join(meant)
                ledger.note(where, listed, "segments spells it otherwise", spelt)
            for recording in meant:
                if owner.setdefault(recording, name) != name:
                    raise ValueError(
                        f"{where}: recording {listed} is also in splits/{owner[recording]};"
                        " a recording belongs to one set"
                    )
    return owner


def _audio(root: Path, recordings: Sequence[str]) -> dict[str, Path]:
    """Return recording -> file, by the last path in `wav.scp` or by the recording's name."""
    files = by_stem([root / "recordings"], (".wav", ".flac", ".sph"))
    listed = root / "ASR_files" / "wav.scp"
    wav_scp = read_keyed(listed) if listed.is_file() else {}
    result = {}
    for recording in recordings:
        named = _FILE.findall(wav_scp.get(recording, ""))
        for stem in (*reversed(named), recording, _core(recording)):
            if stem in files:
                result[recording] = files[stem]
                break
    return result


def _compare_st(
    folder: Path, segments: Mapping[str, Segment], owner: Mapping[str, str]
) -> list[Item]:
    """Return one item per set: how many of ArzEn-ST's ids are in the set of that name here."""
    items = []
    for name in SETS:
        path = folder / "data" / "transcriptions" / f"{name}.src"
        ids = set()
        for where, line in lines(path):
            key, tab, _ = line.partition("\t")
            if not tab or not key.strip():
                raise ValueError(f"{where}: {line!r}; expected '<id> TAB <text>'")
            ids.add(key.strip())
        here = {key for key, s in segments.items() if owner.get(s.recording) == name}
        only = len(ids - here), len(here - ids)
        text = f"{len(ids & here):,} ids in both, {only[0]:,} only there, {only[1]:,} only here"
        items.append(Item(f"{name} against ArzEn-ST", text, f"{len(ids):,} in both", ids == here))
    return items


def inspect(root: Path, options: Mapping[str, str]) -> list[Item]:
    """Count recordings and the size of each set; name the usual mix-up of dev and test."""
    # Recordings, and the utterances per set.
    segments = _segments(root / "ASR_files" / "segments")
    recordings = list(dict.fromkeys(segment.recording for segment in segments.values()))
    owner = _owners(root, recordings, Ledger())
    audio = _audio(root, recordings)
    there = len(audio)
    items = [Item("recordings", f"{there:,}", f"{len(recordings):,}", there == len(recordings))]
    counts = dict.fromkeys(SETS, 0)
    for segment in segments.values():
        if segment.recording in owner:
            counts[owner[segment.recording]] += 1
    items += [
        Item(f"{name} utterances", *compare_counts(counts[name], expected.utterances, sure=False))
        for name, expected in SETS.items()
    ]
    items.append(Item("all utterances", *compare_counts(len(segments), 6216)))
    # What papers disagree about.
    items.append(
        Item(
            "dev / test",
            f"{counts['dev']:,} / {counts['test']:,}",
            "a later paper gives its test set dev's 1,402: say with results which list was used",
            None,
        )
    )
    if "st_dir" in options:
        items += _compare_st(Path(options["st_dir"]), segments, owner)
    return items


CORPUS = Corpus(
    name="arzen",
    title="ArzEn, Egyptian Arabic-English interviews, Cairo",
    variable="ARZEN",
    licence="its own terms, to be accepted on the corpus's site",
    obtain="https://arzen.camel-lab.com (request and download)",
    sets=SETS,
    languages=("ar",),
    find=find,
    read=read,
    inspect=inspect,
    options={
        "diacritics": "remove (default, as the corpus's own systems and BLoRA's) or keep",
        "punctuation": "keep (default) or remove",
        "fillers": "remove (default) or keep the word of %word and %#word",
        "st_dir": "clone of ArzEn-ST: its ids are compared with the sets read here",
    },
)
