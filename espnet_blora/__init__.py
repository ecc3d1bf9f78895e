"""Adapt Whisper through ESPnet with Bayesian low-rank adapters, without breaking what it knows.

These functions are public here; they work on any torch model::

    import espnet_blora

    adapter = espnet_blora.add_adapter(model, "blora", preset="any_size")
    loss = task_loss + adapter.loss_terms()[0]
    adapter.save("adapter.safetensors")
    adapter = espnet_blora.load_adapter(fresh_model, "adapter.safetensors")

`add_adapter` puts a fresh adapter on a model and freezes everything else; `task_loss` is a loss per
token, and the model is called once per micro-batch before each `loss_terms`. `load_adapter` puts
the adapter of a file on a model with the same base. Both return an
`espnet_blora.adapters.Adapter`, which has everything else: loss terms, posterior samples, scale,
merging, counts, files. `get_adapter(model)` returns that of an adapted model, None without one.

A model may carry several adapters by name. One of them computes and trains at a time::

    espnet_blora.add_adapter(model, "lora", name="noisy")
    espnet_blora.load_adapter(model, "adapter.safetensors", name="again")
    espnet_blora.set_adapter(model, "default")
    espnet_blora.mix_adapters(model, {"default": 0.7, "noisy": 0.3}, name="both")
    espnet_blora.delete_adapter(model, "again")

Importing this package is cheap: torch comes in with the first use of one of these names.
"""

from typing import TYPE_CHECKING, Any

from espnet_blora.version import __version__

if TYPE_CHECKING:
    from espnet_blora.adapters import (
        add_adapter,
        delete_adapter,
        get_adapter,
        load_adapter,
        mix_adapters,
        set_adapter,
    )

__all__ = [
    "__version__",
    "add_adapter",
    "delete_adapter",
    "get_adapter",
    "load_adapter",
    "mix_adapters",
    "set_adapter",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from espnet_blora import adapters

        return getattr(adapters, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
