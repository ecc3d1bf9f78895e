"""The language of each utterance: `utt2lang` beside every `wav.scp` a program is given.

ESPnet's programs receive only `wav.scp` and `text`; the folder of `wav.scp` tells where the data
directory is, and Kaldi's `utt2lang` in it holds one Whisper language code per utterance.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_blora.utils.keyed import read_keyed
from espnet_blora.whisper.vocabulary import Vocabulary

SPEECH = "speech"
logger = logging.getLogger(__name__)


@dataclass
class Languages:
    """Utterance id -> Whisper language code, and the files they came from."""

    codes: dict[str, str] = field(default_factory=dict)
    sources: tuple[Path, ...] = ()

    def __getitem__(self, utterance: str) -> str:
        """The code of `utterance`.

        Raises:
            ValueError: when no `utt2lang` names it.
        """
        code = self.codes.get(utterance)
        if code is None:
            where = ", ".join(map(str, self.sources)) or "no utt2lang was read"
            raise ValueError(
                f"utterance {utterance!r} has no language ({where}): add the line "
                f"'{utterance} CODE' with a Whisper language code, for example zh"
            )
        return code

    @classmethod
    def beside(cls, paths: Iterable[str | Path], layout: Vocabulary) -> Languages:
        """Read the `utt2lang` that lies in the folder of each path (a `wav.scp`).

        Raises:
            FileNotFoundError: there is none.
            ValueError: a code this Whisper does not know, naming file and utterance.
        """
        codes: dict[str, str] = {}
        sources: list[Path] = []
        for path in paths:
            source = Path(path).parent / "utt2lang"
            if not source.is_file():
                raise FileNotFoundError(
                    f"{source}: not found, but Whisper's prompt needs the language of every "
                    f"utterance of {path}. Write one line per utterance: '<utterance-id> <code>' "
                    "(zh, en, ...). Splitting with --num_splits_asr is not possible with utt2lang."
                )
            for utterance, value in read_keyed(source).items():
                try:
                    codes[utterance] = layout.language_code(value)
                except ValueError as error:
                    raise ValueError(f"{source}: utterance {utterance!r}: {error}") from error
            sources.append(source)
        if sources:
            logger.info(
                "languages from %s: %s", ", ".join(map(str, sources)), dict(Counter(codes.values()))
            )
        return cls(codes, tuple(sources))

    @classmethod
    def of_arguments(cls, data: Sequence[Sequence[str]], layout: Vocabulary) -> Languages:
        """The languages for ESPnet's (path, name, type) data arguments: those of the speech."""
        return cls.beside([path for path, name, _ in data if name == SPEECH], layout)
