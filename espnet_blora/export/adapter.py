"""The adapter alone, under openai-whisper's names."""

from __future__ import annotations

from pathlib import Path

from whisper.model import Whisper

from espnet_blora.adapters import Adapter, load_adapter

ADAPTER = "adapter.safetensors"
README = """\
# An adapter of espnet_blora, for Whisper {base}

    espnet-blora transcribe --whisper {base} --adapter adapter.safetensors talk.wav

    from espnet_blora import load_adapter
    adapter = load_adapter(model, "adapter.safetensors")  # model: that Whisper of openai-whisper
"""


def write_adapter(adapter: Adapter, plain: Whisper, base: str, folder: Path) -> None:
    """Write the adapter under the names of `plain`, and how to load it.

    Args:
        adapter: Of an experiment or of a file.
        plain: The Whisper that it was trained on, without an adapter; gets this one.
        base: Its published size or file.
        folder: Is there.

    Raises:
        ValueError: The adapter was trained on another Whisper.
        OSError: It cannot be written.
    """
    adapter.save(folder / ADAPTER)
    load_adapter(plain, folder / ADAPTER).save(folder / ADAPTER)
    (folder / "README.md").write_text(README.format(base=Path(base).name), encoding="utf-8")
