"""An export: written beside its place, read back by the reader that its users use, then moved."""

from __future__ import annotations

from pathlib import Path

from whisper.model import Whisper

from espnet_blora.adapters import Adapter
from espnet_blora.export.adapter import write_adapter
from espnet_blora.export.check import READERS, ROUNDED, Probe, compare
from espnet_blora.export.ct2 import write_ct2
from espnet_blora.export.ggml import write_ggml
from espnet_blora.export.hf import write_hf
from espnet_blora.export.openai import write_openai
from espnet_blora.export.peft import write_peft
from espnet_blora.utils import atomic
from espnet_blora.whisper.checkpoint import load_whisper

MERGED = {"openai": write_openai, "hf": write_hf, "ggml": write_ggml}
ALONE = {"adapter": write_adapter, "peft": write_peft}


def check_free(folder: Path) -> None:
    """Check that an export may take the place `folder`.

    Raises:
        ValueError: Something is there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already: choose another folder, or remove it")


def export(
    kind: str,
    model: Whisper | Adapter,
    base: str,
    folder: Path,
    probe: Probe,
    precision: str = "float32",
) -> list[str]:
    """Write an export, whole and checked or not at all.

    Args:
        kind: A key of `READERS`.
        model: For `ALONE` the adapter, else the merged model of `openai.assemble`.
        base: The Whisper that it was trained on: a published size or a file.
        folder: Where; made, empty or not there.
        probe: What the check hears.
        precision: Of the weights of `ct2`, one of `ct2.PRECISIONS`.

    Returns:
        The utterances that read otherwise, `ROUNDED` of them at most, and only where weights were
        rounded.

    Raises:
        Differs: The reader says something else; nothing is left then.
        ValueError: The adapter was trained on another Whisper, or the reader cannot open the files.
        OSError: It cannot be written.
    """
    with atomic.new_folder(folder) as part:
        if isinstance(model, Adapter):
            ALONE[kind](model, load_whisper(base, start=False), base, part)
        elif kind == "ct2":
            write_ct2(model, part, precision)
        else:
            MERGED[kind](model, part)
        rounded = kind == "ggml" or precision != "float32"
        return compare(kind, probe, READERS[kind](part, probe, base), ROUNDED * rounded)
