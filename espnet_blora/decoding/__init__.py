"""The room that decodes: opened models, the search, and transcripts of files.

Importing the room is cheap: torch comes in with the first use of one of these names.

    from espnet_blora.decoding import DecodingOptions, Transcriber, open_experiment

    transcriber = Transcriber(open_experiment("exp/asr_blora"), DecodingOptions(language="zh"))
    for transcript in transcriber.transcribe(["a.wav", "b.flac"]):
        print(transcript.name, transcript.error or transcript.text)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from espnet_blora.decoding.options import DecodingOptions
    from espnet_blora.decoding.recogniser import open_experiment, open_whisper
    from espnet_blora.decoding.transcriber import Transcriber

__all__ = ["DecodingOptions", "Transcriber", "open_experiment", "open_whisper"]

_HOMES = {
    "DecodingOptions": "options",
    "Transcriber": "transcriber",
    "open_experiment": "recogniser",
    "open_whisper": "recogniser",
}


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
