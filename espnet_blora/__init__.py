"""Adapt Whisper through ESPnet with Bayesian low-rank adapters, without breaking what it knows.

On any torch model::

    import espnet_blora

    adapter = espnet_blora.add_adapter(model, "blora", rank=32, target_modules=["query", "value"])
    loss = task_loss + adapter.elbo_terms()[0]
    adapter.save("adapter.safetensors")
    adapter = espnet_blora.load_adapter(fresh_model, "adapter.safetensors")

Importing this package is cheap: torch comes in with the first use of one of these names.
"""

from typing import TYPE_CHECKING

from espnet_blora.version import __version__

if TYPE_CHECKING:
    from espnet_blora.adapters import add_adapter, load_adapter

__all__ = ["__version__", "add_adapter", "load_adapter"]


def __getattr__(name: str):
    if name in ("add_adapter", "load_adapter"):
        from espnet_blora import adapters

        return getattr(adapters, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
