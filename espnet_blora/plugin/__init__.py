"""The room that joins our adapters and Whisper to ESPnet; importing it loads neither."""

import os
from collections.abc import Sequence

from espnet_blora.plugin.settings import PROGRAM, Settings
from espnet_blora.utils.mistakes import parse_scale

__all__ = ["Settings", "needs_plugin", "register", "register_worker"]

_NEEDS = ("_train", "_inference", "_align", "whisper_export_vocabulary")


def register(
    whisper: str | None = None,
    adapter_scale: float | None = None,
    new_languages: Sequence[str] | None = None,
) -> Settings:
    """Plug our adapters and our Whisper into ESPnet, in this process and in the ones it starts.

    Calling it again is allowed and changes only the settings.

    Args:
        whisper: Published Whisper size or checkpoint file; None keeps the environment's.
        adapter_scale: Factor on the adapter's update at decoding; None keeps the environment's.
        new_languages: Codes of languages added to Whisper's; None keeps the environment's.

    Raises:
        ValueError: A setting is malformed, or this ESPnet is not one we know.
    """
    known = Settings.current()
    settings = Settings(
        whisper=known.whisper if whisper is None else str(whisper),
        adapter_scale=known.adapter_scale
        if adapter_scale is None
        else parse_scale(str(adapter_scale), "adapter_scale"),
        new_languages=known.new_languages if new_languages is None else tuple(new_languages),
    )
    settings.export()
    from espnet_blora.plugin import patches

    patches.apply(patches.PATCHES)
    return settings


def needs_plugin(module: str, arguments: list[str]) -> bool:
    """Tell whether a program builds models or Whisper tokens, so that it needs the plugin.

    Light programs of ESPnet (`launch`, `tokenize_text` on characters, ...) must start in a
    fraction of a second; ours in `espnet_blora.bin` plug in by themselves where they need to.
    """
    if module.startswith("espnet_blora."):
        return False
    if not module.startswith(("espnet2.bin.", "espnet2.tasks.")):
        return True
    name = module.rsplit(".", 1)[1]
    if name == "tokenize_text":
        return any("whisper_" in argument for argument in arguments)
    return any(part in name for part in _NEEDS)


def register_worker() -> None:
    """Plug in inside a worker that a launched program has spawned, as the program itself did."""
    if os.environ.get(PROGRAM):
        register()
