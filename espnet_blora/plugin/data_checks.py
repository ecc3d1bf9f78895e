"""Checks of a program's data: languages, the same utterances in every file, readable audio.

ESPnet's programs receive only `wav.scp` and `text`; the folder of `wav.scp` tells where the data
directory is, and Kaldi's `utt2lang` in it holds one Whisper language code per utterance. ESPnet
checks nothing: a text without audio ends in a KeyError inside a worker, a lost audio file in
libsndfile's error number.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_blora.data.audio import is_archive_offset
from espnet_blora.data.kaldi import name_some
from espnet_blora.utils.keyed import read_keyed
from espnet_blora.whisper.vocabulary import Vocabulary

KEYED = ("sound", "kaldi_ark", "text", "text_int")
"""Types of data that come with an utterance id per line."""
SPEECH = "speech"
"""Name of the audio among the data."""
READING = (RuntimeError, OSError, ValueError, ArithmeticError, AssertionError, MemoryError)
"""What ESPnet's readers raise of damaged audio, as it comes."""
log = logging.getLogger(__name__)


class Languages(dict[str, str]):
    """Whisper language code of each utterance.

    Attributes:
        source: The file that they came from.
        of_all: The language of every utterance, where there is no such file.
    """

    source: Path | None = None
    of_all: str | None = None

    def __missing__(self, utterance: str) -> str:
        """Return the language of all, or refuse an utterance that `utt2lang` does not name.

        Raises:
            ValueError: There is no language of all; names the utterance and the file.
        """
        if self.of_all is not None:
            return self.of_all
        raise ValueError(
            f"utterance {utterance!r} has no language ({self.source or 'no utt2lang was read'}): "
            f"add the line '{utterance} CODE' with a Whisper language code, for example zh"
        )

    @classmethod
    def beside(
        cls, wav_scp: str | Path, vocabulary: Vocabulary, whisper_language: str | None = None
    ) -> Languages:
        """Read the `utt2lang` that lies in the folder of a `wav.scp`.

        Args:
            wav_scp: The list of audio.
            vocabulary: The Whisper's vocabulary, which knows its languages.
            whisper_language: That of `preprocessor_conf`, for all where there is no `utt2lang`;
                where it says something else, that is a warning.

        Raises:
            FileNotFoundError: There is neither.
            ValueError: A code this Whisper does not know, naming file and utterance.
        """
        languages = cls()
        languages.source = source = Path(wav_scp).parent / "utt2lang"
        stated = None
        if whisper_language is not None:
            try:
                stated = vocabulary.language_code(whisper_language)
            except ValueError as error:
                raise ValueError(f"preprocessor_conf.whisper_language: {error}") from error
        if not source.is_file():
            if stated is None:
                raise FileNotFoundError(
                    f"{source}: not found, but Whisper's prompt needs the language of every "
                    f"utterance of {wav_scp}. Write one line per utterance: '<utterance-id> "
                    "<code>' (zh, en, ...), or name one language for all: preprocessor_conf: "
                    "{whisper_language: zh}. Splitting with --num_splits_asr is not possible with "
                    "utt2lang."
                )
            languages.of_all = stated
            log.info("no %s: all are %s (preprocessor_conf.whisper_language)", source, stated)
            return languages
        given = read_keyed(source)
        codes = dict.fromkeys(given.values(), "")  # each value once, in the order of the lines
        for value in codes:
            try:
                codes[value] = vocabulary.language_code(value)
            except ValueError as error:
                utterance = next(key for key, other in given.items() if other == value)
                raise ValueError(f"{source}: utterance {utterance!r}: {error}") from error
        languages.update(given)
        if any(value != code for value, code in codes.items()):  # "Chinese", "ZH"
            languages.update((key, codes[value]) for key, value in given.items())
        counts = Counter(languages.values())
        log.info("languages from %s: %s", source, dict(counts))
        if stated is not None and counts[stated] < len(languages):
            log.warning(
                "preprocessor_conf.whisper_language: %s, but %s has another language for %d of %d "
                "utterances: utt2lang decides",
                stated,
                source,
                len(languages) - counts[stated],
                len(languages),
            )
        return languages


def check_utterances(data: Sequence[Sequence[str]]) -> None:
    """Check that all of ESPnet's (path, name, type) data arguments hold the same utterances.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: An id is empty, listed twice, in one file only, or alone on its line; names
            file and ids.
    """
    files = {path: read_keyed(path) for path, _, kind in data if kind in KEYED}
    if not files:
        return
    (first, ids), *others = files.items()
    if not ids:
        raise ValueError(f"{first}: no utterances; run the recipe's stages 1-4 again")
    # Ids alone on their line.
    problems = []
    for path, keyed in files.items():
        if empty := [key for key, value in keyed.items() if not value]:
            problems.append(f"nothing behind the id in {path}: {name_some(empty)}")
    # Ids that only one of the first file and another has.
    for path, keyed in others:
        if extra := ids.keys() - keyed.keys():
            problems.append(f"{len(extra)} in {first} but not in {path}: {name_some(extra)}")
        if extra := keyed.keys() - ids.keys():
            problems.append(f"{len(extra)} in {path} but not in {first}: {name_some(extra)}")
    if problems:
        raise ValueError(
            f"every utterance needs its line in every file: {'; '.join(problems)}. Remedy: add "
            "what is missing, or take these out everywhere (utils/fix_data_dir.sh), and run stages "
            "3-10 again"
        )


def check_entry(utterance: str, place: str) -> None:
    """Refuse a place in a Kaldi archive that is not behind the utterance's own id.

    Raises:
        OSError: The archive cannot be read.
        ValueError: Other bytes stand there: the archive or its list is damaged, or not its own.
    """
    if not is_archive_offset(place):
        return
    path, _, offset = place.rpartition(":")
    head = f"{utterance} ".encode()
    with open(path, "rb") as archive:
        archive.seek(max(0, int(offset) - len(head)))
        if int(offset) < len(head) or archive.read(len(head)) != head:
            raise ValueError(f"no entry of {utterance!r} begins there")


def _unusable(place: str, error: Exception) -> ValueError:
    return ValueError(
        f"audio {place} cannot be read ({error}): restore the file, or take its utterance out of "
        "wav.scp, text and utt2lang"
    )


def naming_file(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Wrap ESPnet's reader of one audio file (statistics, decoding): it names what fails."""

    def read_sound(path: str) -> Any:
        try:
            return read(path)
        except READING as error:
            raise _unusable(repr(path), error) from error

    return read_sound


class NamingReader(Mapping):
    """ESPnet's reader of a wav.scp (training), which names what fails: utterance -> samples."""

    def __init__(self, reader: Mapping, places: Mapping[str, str], path: str):
        self.reader, self.places, self.path = reader, places, path

    def __getitem__(self, utterance: str) -> Any:
        """Read one utterance.

        Raises:
            ValueError: It is not listed, or its file cannot be read.
        """
        if utterance not in self.places:
            raise ValueError(
                f"utterance {utterance!r} is not in {self.path}, but in the shape file of stage "
                "10: run stages 10 and 11 again, the former with the data of the latter"
            )
        try:
            check_entry(utterance, self.places[utterance])
            return self.reader[utterance]
        except READING as error:
            place = f"{self.places[utterance]!r} of utterance {utterance!r}"
            raise _unusable(place, error) from error

    def __contains__(self, utterance: object) -> bool:
        return utterance in self.places  # ESPnet's reader would read the audio to find out

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def naming_reader(load: Callable[..., Any], places: str = "data") -> Callable[..., Mapping]:
    """Wrap a function by which ESPnet's training opens a wav.scp.

    Args:
        load: Of files (`sound`) or of Kaldi archives (`kaldi_ark`).
        places: The attribute of its loader that holds utterance -> place.
    """

    def sound_loader(path: str, **options: Any) -> Mapping:
        reader = load(path, **options)
        return NamingReader(reader, getattr(reader.loader, places), path)

    return sound_loader
