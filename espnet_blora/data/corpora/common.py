"""Functions of several corpora: folders, options, sizes, languages, lengths, checks of a copy."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from espnet_blora.data import audio
from espnet_blora.data.records import Expected, Item, Ledger, Utterance
from espnet_blora.text.tokens import unspaced

log = logging.getLogger(__name__)

# Zero-width space: a blank, as scoring has it. Joiners (200C, 200D) belong to words and stay.
_BLANKS = re.compile("[\\s\u200b]+")
# Marks that no script shows: direction (200E, 200F, 202A-202E, 2066-2069), byte order mark.
_UNSEEN = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\x00-\x08\x0e-\x1b\x7f]")
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9._\-]+")
_NOT_IN_SPEAKER = re.compile(r"[^A-Za-z0-9._]+")
# Full-width digits and letters -> ASCII. Full-width punctuation is how Chinese is written.
_FULL_WIDTH = {
    code: code - 0xFEE0
    for first, last in ("０９", "ＡＺ", "ａｚ")
    for code in range(ord(first), ord(last) + 1)
}


def find_root(path: Path, marks: Sequence[str], variants: Sequence[str], hint: str) -> Path:
    """Return the first of `path/variant` that holds one of `marks`.

    A path that is itself named like a mark stands for its parent.

    Args:
        path: The user's.
        marks: Relative paths or patterns, as for `Path.glob`.
        variants: The same; the matches of a pattern are tried in order of name.
        hint: End of the error message.

    Raises:
        FileNotFoundError: No such folder; says what was looked for, and `hint`.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such directory; {hint}")
    # Where it may lie, best first.
    candidates: list[Path] = []
    for variant in variants:
        candidates += sorted(path.glob(variant)) if "*" in variant else [path / variant]
    if path.resolve().name in marks:
        candidates.append(path.resolve().parent)
    for candidate in candidates:
        if any(any(candidate.glob(mark)) for mark in marks):
            return candidate
    below = ", ".join(filter(None, variants))
    raise FileNotFoundError(
        f"{path}: holds none of {', '.join(marks)}, nor does {below} in it; {hint}"
    )


class SetAbsentError(FileNotFoundError):
    """A set that this copy of a corpus lacks altogether, which may be intended."""


def existing(place: Path, remedy: str) -> Path:
    """Return the file or folder with which a set begins.

    Raises:
        SetAbsentError: It is not there; says the remedy.
    """
    if not place.exists():
        raise SetAbsentError(f"{place}: not there; {remedy}")
    return place


def language_folder(root: Path, option: str, options: Mapping[str, str]) -> Path:
    """Return the folder of one language (it holds `test.tsv`): the option's, or the only one.

    Raises:
        ValueError: The option is needed; names the folders.
        SetAbsentError: The folder that the option names is not there.
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


def keep(utterance: Utterance, ledger: Ledger) -> list[Utterance]:
    """Return the utterance alone, or nothing and a line of the ledger if it has no text or no time.

    Whether its audio is there and can be read turns out, and is reported, when it is cut.
    """
    start, end = utterance.start or 0.0, utterance.end
    if not utterance.text:
        ledger.skip(utterance.where, utterance.id, "empty text")
    elif end is not None and end <= start:
        ledger.skip(utterance.where, utterance.id, "no time", f"{start:g} to {end:g} s")
    else:
        return [utterance]
    return []


def part_size(value: str, total: int, option: str) -> int:
    """Return how many of `total` an option asks for.

    >>> part_size("5%", 2000, "valid"), part_size("0.001", 50, "valid"), part_size("7", 50, "valid")
    (100, 1, 7)

    Args:
        value: A count (`"300"`), a percentage (`"5%"`) or a share (`"0.05"`). A share is rounded
            down, but a share above 0 of a set that is not empty gives at least 1.
        total: Size of the set.
        option: Its name, for the message.

    Raises:
        ValueError: It is none of these, or nothing of `total` would be left; names the option.
    """
    text = value.strip()
    try:
        if text.isdecimal() and text.isascii():
            share, count = 0.0, int(text)
        else:
            share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
            count = 0 if share == 0 else max(1, int(share * total + 1e-9))
    except (ValueError, OverflowError):  # the second: infinity
        share = -1.0
    if not 0 <= share < 1:
        raise ValueError(
            f"{option}={value}: a count (300), a percentage (5%) or a share (0.05) is expected"
        )
    if count and count >= total:
        raise ValueError(f"{option}={value}: only {total} are there, and some must be left")
    return count


def single_blanks(text: str) -> str:
    """Make each stretch of white space (no-break, zero-width, ideographic, ...) one blank.

    Direction marks, byte order marks and control characters are removed; the joiners within Persian
    and Indic words stay. Kaldi's tools refuse text that holds other blanks.
    """
    return _BLANKS.sub(" ", _UNSEEN.sub("", text)).strip()


def half_width(text: str) -> str:
    """Turn full-width letters and digits (`Ｔ恤`) into ASCII (`T恤`); punctuation stays."""
    return text.translate(_FULL_WIDTH)


def speaker_name(*parts: str) -> str:
    """Join a speaker's name from ASCII letters, digits and `._`; anything else becomes `_`.

    Without `-` in the names, ids sort as speakers do, because `-` sorts before all of these
    characters: `a-9` before `a_b-1`, as `a` before `a_b`.

    >>> speaker_name("cmn-eng", "spk 7")
    'cmn_eng_spk_7'
    """
    return "_".join(_NOT_IN_SPEAKER.sub("_", part) for part in parts)


def utterance_id(speaker: str, rest: str) -> str:
    """Join an utterance's id from its speaker's name and the rest (ASCII, `-` allowed)."""
    return f"{speaker}-{_NOT_IN_ID.sub('_', rest)}"


def whole_recording(
    speaker: str, rest: str, language: str, text: str, recording: Path, where: str
) -> Utterance:
    """Return the utterance that a recording holds, its names in ASCII, its text as Whisper writes.

    Args:
        speaker: As the corpus names it.
        rest: The end of the utterance's id, after its speaker.
        language: Whisper's code.
        text: The reference; blanks that separate Han characters are removed.
        recording: The audio.
        where: `"file:line"` of the transcript.
    """
    name = speaker_name(speaker)
    text = unspaced(single_blanks(text))
    return Utterance(utterance_id(name, rest), name, language, text, recording, where=where)


def by_stem(folders: Iterable[Path], suffixes: Sequence[str]) -> dict[str, Path]:
    """Return recordings by name without suffix, whatever the case of the suffix.

    Of several with one name, the suffix named first wins, then the folder named first.
    """
    ranked = [
        (suffixes.index(path.suffix.lower()), place, path.name, path)
        for place, folder in enumerate(folders)
        if folder.is_dir()
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes
    ]
    return {path.stem: path for *_, path in sorted(ranked, reverse=True)}  # the last one stays


def choice(options: Mapping[str, str], name: str, allowed: Sequence[str]) -> str:
    """Return the value of an option: the user's, or by default the first of `allowed`.

    Raises:
        ValueError: The value is not allowed; names those that are.
    """
    value = options.get(name, allowed[0])
    if value not in allowed:
        raise ValueError(f"option {name}={value}: allowed are {', '.join(allowed)}")
    return value


def compare_counts(
    count: int, expected: int | None, *, sure: bool = True
) -> tuple[str, str, bool | None]:
    """Return found and expected counts as `check_corpus` shows them, and whether they agree.

    Where the expectation is not `sure` (second-hand, or made with other tools), another count is
    not a fault: None instead of False, unless there is nothing at all.
    """
    if expected is None:
        return f"{count:,}", "-", None
    agrees = count == expected
    return f"{count:,}", f"{expected:,}", agrees if agrees or sure or not count else None


def number_from_0(value: str, where: str) -> float:
    """Return a finite number that is not negative.

    Raises:
        ValueError: The value is not such a number; the message begins with `where`.
    """
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"{where}: {value!r}; expected a number from 0 on")
    return number


def positive_number(options: Mapping[str, str], name: str) -> float | None:
    """Return the value of an option that is a number above 0, or None if it was not given.

    Raises:
        ValueError: The value is not a number above 0.
    """
    if name not in options:
        return None
    try:
        value = float(options[name])
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"option {name}={options[name]!r}; expected a number above 0, as 0.5")
    return value


def hash_order(name: str) -> bytes:
    """Return the place of a name in a fixed order that looks random: its SHA-256."""
    return hashlib.sha256(name.encode()).digest()


def header_seconds(path: Path) -> float | None:
    """Return how long a recording lasts by its header, or None if that cannot be read."""
    try:
        return audio.duration(path)
    except (FileNotFoundError, ValueError):
        return None  # the cutting of the audio will say what is wrong with it


def header_lengths(recordings: Iterable[Path]) -> tuple[dict[Path, float], list[str]]:
    """Return recording -> seconds by its header, 0 where that cannot be read; and why it cannot."""
    lengths: dict[Path, float] = {}
    faults: list[str] = []
    for recording in dict.fromkeys(recordings):
        try:
            lengths[recording] = audio.duration(recording)
        except (FileNotFoundError, ValueError) as error:
            lengths[recording] = 0.0
            faults.append(str(error))
    return lengths, faults


def drop_long(
    utterances: Sequence[Utterance],
    longest: float | None,
    ledger: Ledger,
    seconds_of: Callable[[Path], float | None] = header_seconds,
) -> list[Utterance]:
    """Return the utterances that last at most `longest` seconds; the ledger lists the others.

    Those of unknown length are kept.
    """
    if longest is None:
        return list(utterances)
    kept = []
    for utterance in utterances:
        seconds = seconds_of(utterance.audio)
        if seconds is not None and seconds > longest:
            reason = f"longer than {longest:g} s"
            ledger.skip(utterance.where, utterance.id, reason, f"{seconds:.2f} s")
        else:
            kept.append(utterance)
    return kept


def draw_hours(
    utterances: Sequence[Utterance], hours: float | None, where: str, ledger: Ledger
) -> list[Utterance]:
    """Return utterances of about `hours` hours, in the order of `hash_order` of their files.

    The first one that exceeds the limit is still taken; a smaller part is the beginning of a larger
    one. If there are not more, all are returned as they are. The ledger counts those that are not
    drawn in one note, as they are not lost.
    """
    if hours is None:
        return list(utterances)
    drawn, total = [], 0.0
    for utterance in sorted(utterances, key=lambda u: hash_order(u.audio.name)):
        if total > hours * 3600:
            break
        total += header_seconds(utterance.audio) or 0.0
        drawn.append(utterance)
    if len(drawn) == len(utterances):
        return list(utterances)
    what = f"{len(drawn)} of {len(utterances)} utterances were drawn for {hours:g} h"
    log.info(f"{where}: {what}, by the SHA-256 of their files' names")
    ledger.note(where, "", "a part was drawn", what)
    return drawn


def inspect_sets(
    read: Callable[[Path, list[str], Ledger, Mapping[str, str]], dict[str, list[Utterance]]],
    sets: Mapping[str, Expected],
    root: Path,
    options: Mapping[str, str],
) -> list[Item]:
    """Read each set by itself and return one item per set; an absent set is not a fault.

    `ok` tells whether as many utterances can be used as were published, and is None where nothing
    was published; it is False for a set that cannot be read, and for a copy without any set.
    """
    items, there = [], 0
    for name, size in sets.items():
        expected = str(size)
        ledger = Ledger()
        try:
            utterances = read(root, [name], ledger, options)[name]
        except SetAbsentError as error:
            items.append(Item(name, str(error), expected, None))
        except (FileNotFoundError, ValueError) as error:
            items.append(Item(name, f"cannot be used: {error}", expected, False))
            there += 1
        else:
            there += 1
            items.append(_item(name, utterances, ledger, size.utterances, expected))
    if not there:
        items.append(Item("sets", "none", f"one of {', '.join(sets)}", False))
    return items


def _item(
    name: str, utterances: list[Utterance], ledger: Ledger, published: int | None, expected: str
) -> Item:
    """Return the item of a set that could be read."""
    for utterance in utterances:
        if not utterance.audio.is_file():
            ledger.skip(utterance.where, utterance.id, "no audio", str(utterance.audio))
    usable = len(utterances) - ledger.counts().get("no audio", 0)
    text = f"{usable:,} utterances"
    for what, counts in (("left out", ledger.counts()), ("noted", ledger.note_counts())):
        if counts:
            text += f"; {what}: " + ", ".join(f"{reason} {n}" for reason, n in counts.items())
    ok = None if published is None else usable == published
    return Item(name, text, expected, ok if usable else False)


# ---- languages ----

# Whisper's code, then other tags for the same language: ISO 639-3, ISO 639-2/B where it differs,
# the individual language that corpora name where ISO 639-3 has a macrolanguage, older tags.
_TABLE = """
en eng | zh zho chi cmn | de deu ger | es spa | ru rus | ko kor | fr fra fre | ja jpn | pt por
tr tur | pl pol | ca cat | nl nld dut | ar ara arb arz ary apc acm afb | sv swe | it ita | id ind
hi hin | fi fin | vi vie | he heb iw | uk ukr | el ell gre | ms msa may zsm | cs ces cze
ro ron rum | da dan | hu hun | ta tam | no nor nob nb | th tha | ur urd | hr hrv | bg bul | lt lit
la lat | mi mri mao | ml mal | cy cym wel | sk slk slo | te tel | fa fas per pes | lv lav lvs
bn ben | sr srp | az aze azj | sl slv | kn kan | et est ekk | mk mkd mac | br bre | eu eus baq
is isl ice | hy hye arm | ne nep npi | mn mon khk | bs bos | kk kaz | sq sqi alb als | sw swa swh
gl glg | mr mar | pa pan | si sin | km khm | sn sna | yo yor | so som | af afr | oc oci
ka kat geo | be bel | tg tgk | sd snd | gu guj | am amh | yi yid ydd | lo lao | uz uzb uzn
fo fao | ht hat | ps pus pbt | tk tuk | nn nno | mt mlt | sa san | lb ltz | my mya bur
bo bod tib | tl tgl fil | mg mlg plt | as asm | tt tat | haw | ln lin | ha hau | ba bak
jw jav jv | su sun | yue
"""
_CODES = {
    tag: group.split()[0] for group in _TABLE.replace("\n", "|").split("|") for tag in group.split()
}
_REGIONAL = {"zh-hk": "yue"}  # Common Voice's name for Cantonese

WHISPER_CODES: tuple[str, ...] = tuple(dict.fromkeys(_CODES.values()))


def whisper_code(tag: str) -> str | None:
    """Return Whisper's code for a language tag, or None if Whisper has no such language.

    >>> [whisper_code(tag) for tag in ("ara", "zh-CN", "cmn_hans_cn", "zh-HK", "rw")]
    ['ar', 'zh', 'zh', 'yue', None]

    Takes ISO 639-1 and 639-3 (`ar`, `ara`), Common Voice's locales (`zh-CN`) and FLEURS's
    (`cmn_hans_cn`). The region matters for Hong Kong's Chinese alone. Only large-v3 and
    large-v3-turbo know `yue`.
    """
    tag = tag.strip().lower().replace("_", "-")
    return _REGIONAL.get(tag) or _CODES.get(tag.partition("-")[0])


def prompt_code(tag: str, given: str | None = None) -> str:
    """Return the code of the prompt for a corpus of that tag: the user's `given`, or Whisper's.

    Raises:
        ValueError: Whisper lacks the language and none is given, or the code is malformed.
    """
    code = given or whisper_code(tag)
    if not code:
        raise ValueError(
            f"Whisper has no language for {tag!r}; give option language=CODE: one of its own "
            f"({', '.join(WHISPER_CODES)}) or one that you add to its vocabulary"
        )
    if not re.fullmatch("[a-z]{2,3}", code):
        raise ValueError(f"option language={code!r}; expected a code of 2 or 3 letters, as 'rw'")
    return code
