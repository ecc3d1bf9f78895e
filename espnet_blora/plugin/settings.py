"""Options of the launcher, kept in environment variables so that spawned workers have them."""

import os
from dataclasses import dataclass

from espnet_blora.utils.mistakes import parse_scale

WHISPER = "ESPNET_BLORA_WHISPER"
SCALE = "ESPNET_BLORA_SCALE"
NEW_LANGUAGES = "ESPNET_BLORA_NEW_LANGUAGES"
PROGRAM = "ESPNET_BLORA_PROGRAM"
SEARCH = "ESPNET_BLORA_SEARCH"
SEARCHES = ("batched", "espnet")
"""Who decodes: our batched search where it can, or ESPnet's own whatever the options."""


@dataclass(frozen=True)
class Settings:
    """The launcher's options.

    Attributes:
        whisper: A published Whisper size or a checkpoint file; None where the program needs none.
        adapter_scale: Factor on the adapter's update at decoding, finite and >= 0; None leaves 1.
        new_languages: Codes of languages that are added to the Whisper's own.
    """

    whisper: str | None = None
    adapter_scale: float | None = None
    new_languages: tuple[str, ...] = ()

    @staticmethod
    def current() -> "Settings":
        """Read the settings of this process from its environment.

        Raises:
            ValueError: ESPNET_BLORA_SCALE is not a finite number >= 0.
        """
        scale = os.environ.get(SCALE)
        return Settings(
            whisper=os.environ.get(WHISPER) or None,
            adapter_scale=None if not scale else parse_scale(scale, f"environment {SCALE}"),
            new_languages=parse_languages(os.environ.get(NEW_LANGUAGES, "")),
        )

    def export(self) -> None:
        """Write the settings into the environment, where child processes find them."""
        for name, value in (
            (WHISPER, self.whisper),
            (SCALE, self.adapter_scale),
            (NEW_LANGUAGES, " ".join(self.new_languages)),
        ):
            if value is None or value == "":
                os.environ.pop(name, None)
            else:
                os.environ[name] = str(value)


def parse_languages(text: str) -> tuple[str, ...]:
    """Return the codes in `text`, with blanks or commas between them; a Vocabulary checks them.

    >>> parse_languages("rw,kab lg")
    ('rw', 'kab', 'lg')
    """
    return tuple(text.replace(",", " ").split())
