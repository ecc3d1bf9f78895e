"""What a program is given to read: the same utterances in every file, and audio that can be read.

ESPnet looks at neither: a text without audio ends in a KeyError inside a worker, a lost audio
file in libsndfile's error number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from espnet_blora.data.kaldi import c_sorted, read_keyed

KEYED = ("sound", "kaldi_ark", "text", "text_int")
_SHOWN = 5


def check_utterances(data: Sequence[Sequence[str]]) -> None:
    """Check that all of ESPnet's (path, name, type) data arguments hold the same utterances.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: an id is empty, listed twice, in one file only, or alone on its line; names
            file and ids.
    """
    files = {path: read_keyed(path) for path, _, kind in data if kind in KEYED}
    if not files:
        return
    (first, ids), *others = files.items()
    if not ids:
        raise ValueError(f"{first}: no utterances; run the recipe's stages 1-4 again")
    problems = []
    for path, keyed in files.items():
        if empty := [key for key, value in keyed.items() if not value]:
            problems.append(f"{len(empty)} with nothing behind the id in {path}: {_named(empty)}")
    for path, keyed in others:
        for lonely, here, there in ((ids, first, path), (keyed, path, first)):
            odd = lonely.keys() - (keyed if lonely is ids else ids).keys()
            if odd:
                problems.append(f"{len(odd)} in {here} but not in {there}: {_named(odd)}")
    if problems:
        raise ValueError(
            f"every utterance needs its line in every file: {'; '.join(problems)}. Remedy: add "
            "what is missing, or take these out everywhere (utils/fix_data_dir.sh), and run stages "
            "3-10 again"
        )


def _named(ids: Collection[str]) -> str:
    more = ", ..." if len(ids) > _SHOWN else ""
    return ", ".join(c_sorted(ids)[:_SHOWN]) + more


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
        except (RuntimeError, OSError) as error:
            raise _unusable(repr(path), error) from error

    return read_sound


class NamingReader(Mapping):
    """ESPnet's reader of a wav.scp (training), which names what fails: utterance -> samples."""

    def __init__(self, reader: Mapping, places: Mapping[str, str], path: str):
        self.reader, self.places, self.path = reader, places, path

    def __getitem__(self, utterance: str) -> Any:
        """Read one utterance.

        Raises:
            ValueError: it is not listed, or its file cannot be read.
        """
        if utterance not in self.places:
            raise ValueError(
                f"utterance {utterance!r} is not in {self.path}, but in the shape file of stage "
                "10: run stages 10 and 11 again, the former with the data of the latter"
            )
        try:
            return self.reader[utterance]
        except (RuntimeError, OSError) as error:
            place = f"{self.places[utterance]!r} of utterance {utterance!r}"
            raise _unusable(place, error) from error

    def __contains__(self, utterance: object) -> bool:
        return utterance in self.places  # ESPnet's reader would read the audio to find out

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def naming_reader(load: Callable[..., Mapping]) -> Callable[..., Mapping]:
    """Wrap the function by which ESPnet's training opens a wav.scp."""

    def sound_loader(path: str, **options: Any) -> Mapping:
        reader = load(path, **options)
        return NamingReader(reader, reader.loader.data, path)

    return sound_loader
