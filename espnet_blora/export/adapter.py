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


def on_plain(adapter: Adapter, plain: Whisper, path: Path) -> Adapter:
    """Put an adapter on the plain Whisper that it was trained on, by way of a file.

    Args:
        adapter: Of an experiment or of a file.
        plain: That Whisper, without an adapter.
        path: The file; it then has the names of `plain`.

    Raises:
        ValueError: The adapter was trained on another Whisper.
        OSError: The file cannot be written.
    """
    adapter.save(path)
    renamed = load_adapter(plain.eval(), path)
    renamed.save(path)
    return renamed


def write_adapter(adapter: Adapter, plain: Whisper, base: str, folder: Path) -> None:
    """Write the adapter under the names of `plain`, and how to load it.

    Args:
        adapter: As of `on_plain`.
        plain: As of `on_plain`.
        base: Its published size or file.
        folder: Is there.

    Raises:
        ValueError: The adapter was trained on another Whisper.
        OSError: It cannot be written.
    """
    on_plain(adapter, plain, folder / ADAPTER)
    (folder / "README.md").write_text(README.format(base=Path(base).name), encoding="utf-8")
