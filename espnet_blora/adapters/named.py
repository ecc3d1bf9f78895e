"""Several adapters on one model, by name: one of them computes and trains, the others stand by.

Whoever stands by costs nothing: its Linears are what they were, its factors are kept as they are,
and checkpoints of the model hold the one that computes. Each of them is saved to a file of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from espnet_blora.adapters.adapter import Adapter, get_adapter
from espnet_blora.adapters.layer import put_on, take_off
from espnet_blora.adapters.load_hooks import add_hooks, remove_hooks
from espnet_blora.adapters.state import STATE_NAME, AdapterState
from espnet_blora.utils.mistakes import did_you_mean


def set_adapter(model: nn.Module, name: str) -> Adapter:
    """Let the adapter of this name compute and train from now on; the present one stands by.

    Handles of other adapters are errors until their adapter is set again. An optimiser keeps its
    parameters: each adapter has its own.

    Args:
        model: The adapted model itself, not a wrapper of it.
        name: As given to `add_adapter` or `load_adapter`; `default` where none was.

    Raises:
        ValueError: There is no such adapter, the model is inside a wrapper (DDP), or the base is
            held in half precision for the present one.
    """
    present = find_present(model)
    wanted = find_named(present, name)
    if wanted is not present.state:
        _stand_by(present)
        _set(model, wanted)
    return Adapter(model)


def delete_adapter(model: nn.Module, name: str) -> None:
    """Drop an adapter that stands by.

    Raises:
        ValueError: There is no such adapter, it is the one that computes, or as of `set_adapter`.
    """
    present = find_present(model)
    if find_named(present, name) is present.state:
        raise ValueError(f"adapter '{name}' is the one that computes: set another one first")
    del present.state.named[name]


def find_present(model: nn.Module) -> Adapter:
    """Return the adapter that computes.

    Raises:
        ValueError: There is none, or the model is inside a wrapper.
    """
    present = get_adapter(model)
    if present is None:
        raise ValueError("this model carries no adapter: add_adapter or load_adapter puts one on")
    if present.model is not model:
        raise ValueError(
            f"{type(model).__name__} is a wrapper of the adapted model, made for the adapter that "
            "computes: choose adapters before the model is wrapped"
        )
    return present


def find_named(present: Adapter, name: str) -> AdapterState:
    """Return the state of a named adapter.

    Raises:
        ValueError: There is none of this name; names those there are.
    """
    named = present.state.named
    if name not in named:
        raise ValueError(
            f"no adapter is called {name!r}{did_you_mean(name, named)}; there are: "
            f"{', '.join(named)}"
        )
    return named[name]


@contextmanager
def room_beside(model: nn.Module, name: str) -> Iterator[dict[str, AdapterState]]:
    """Let the present adapter stand by, so that another can be put on; after a failure it is back.

    Yields:
        The adapters by name, to which the new one belongs.

    Raises:
        ValueError: The name is taken, or the base is held in half precision for the present one.
    """
    present = find_present(model)
    state = present.state
    if name in state.named:
        raise ValueError(
            f"an adapter of this model is called {name!r} already: choose another name"
        )
    _stand_by(present)
    try:
        yield state.named
    except BaseException:
        _set(model, state)
        raise


def _stand_by(adapter: Adapter) -> None:
    """Make the model what it was before this adapter was put on; its state keeps the layers.

    Raises:
        ValueError: The base is held in half precision for this adapter.
    """
    state = adapter.state
    if state.base_rows is not None:
        raise ValueError(
            f"the base is held in half precision for adapter '{state.name}': another one needs it "
            "as it was; build the model anew"
        )
    remove_hooks(adapter.model)
    for name, linear in state.layers.items():
        state.layers[name] = take_off(linear)
    delattr(adapter.model, STATE_NAME)


def _set(model: nn.Module, state: AdapterState) -> None:
    """Put an adapter that stood by on its model, on the device where its Linears are now."""
    for name, layer in state.layers.items():
        state.layers[name] = put_on(model.get_submodule(name), layer)
    state.to(next(iter(state.layers.values())).weight.device)
    model.add_module(STATE_NAME, state)
    add_hooks(model)
