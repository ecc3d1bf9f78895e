"""CTranslate2's folder, which faster-whisper opens: made by CTranslate2's own converter."""

from __future__ import annotations

import shutil
from pathlib import Path

from whisper.model import Whisper

from espnet_blora.export.hf import write_hf

PRECISIONS = ("float32", "float16", "int8")
BESIDE = ("tokenizer.json", "preprocessor_config.json")  # without them: a download, and 80 mels
README = """\
# A Whisper for faster-whisper and CTranslate2, stored in {precision}

    from faster_whisper import WhisperModel
    model = WhisperModel("FOLDER")
    segments, info = model.transcribe("talk.wav", language="en", beam_size=1)
    print(" ".join(segment.text for segment in segments))

Where PyAV is too new for faster-whisper (TypeError: 'metadata_errors'), give `transcribe` samples
of 16 kHz in the place of a file: `soundfile.read("talk.wav", dtype="float32")[0]`.
"""


def write_ct2(model: Whisper, folder: Path, precision: str) -> None:
    """Write model.bin, its configuration and vocabulary, and what faster-whisper reads beside.

    Args:
        model: Of `openai.assemble`.
        folder: Is there.
        precision: One of `PRECISIONS`, of the stored weights.

    Raises:
        OSError: It cannot be written.
        ValueError: Names that do not match.
    """
    from ctranslate2.converters import TransformersConverter

    source, made = folder / "hf", folder / "ct2"
    source.mkdir()
    write_hf(model, source)
    converter = TransformersConverter(str(source), copy_files=list(BESIDE))
    converter.convert(str(made), quantization=precision)
    for path in made.iterdir():
        path.rename(folder / path.name)
    made.rmdir()
    shutil.rmtree(source)
    (folder / "README.md").write_text(README.format(precision=precision), encoding="utf-8")
