"""Late imports: libraries that ESPnet imports at its top for models that are not Whisper's.

While ESPnet is imported, its modules get stand-ins for these; each name of a stand-in imports its
library when it is used for the first time.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

LIBRARIES = ("transformers", "scipy.stats", "scipy.signal", "hydra")
"""Of Hugging Face's models, a TTS's alignment, noise added to training's audio, S4's decoder."""


class Late:
    """A name of a module that is imported when the name is used, as a function or as a class."""

    def __init__(self, module: str, name: str):
        self._place = module, name

    def _real(self) -> Any:
        module, name = self._place
        return getattr(importlib.import_module(module), name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call what it is; a class makes an instance."""
        return self._real()(*args, **kwargs)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, self._real())

    def __mro_entries__(self, bases: tuple) -> tuple:
        return (self._real(),)


class _StandIn(ModuleType):
    """In the place of a module: whatever is asked of it is late."""

    def __getattr__(self, name: str) -> Late:
        if name.startswith("__"):
            raise AttributeError(name)
        return Late(self.__name__, name)


@contextmanager
def late_imports() -> Iterator[None]:
    """Give ESPnet's modules stand-ins of those `LIBRARIES` that are installed."""
    original = builtins.__import__
    heads = {name.partition(".")[0] for name in LIBRARIES}
    installed = {name for name in heads if importlib.util.find_spec(name) is not None}

    def importing(
        name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        head = name.partition(".")[0]
        if (
            level == 0
            and head in installed
            and any(f"{name}.".startswith(f"{library}.") for library in LIBRARIES)
            and str((globals or {}).get("__name__")).startswith("espnet2.")
        ):
            if fromlist or name == head:
                return _StandIn(name)
            name = head  # `import scipy.signal` binds scipy, which finds its parts when asked
        return original(name, globals, locals, fromlist, level)

    builtins.__import__ = importing
    try:
        yield
    finally:
        builtins.__import__ = original
