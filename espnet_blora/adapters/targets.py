"""The Linears of a model that an adapter goes on, by whole dotted components of their names."""

from collections.abc import Sequence

from torch import nn
from torch.nn.parameter import is_lazy

from espnet_blora.adapters.layer import AdapterLayer
from espnet_blora.utils.mistakes import did_you_mean


def name_matches(name: str, target: str) -> bool:
    """Return whether `target` is `name` or ends it in whole components.

    >>> name_matches("blocks.0.attn.query", "query"), name_matches("blocks.0.my_query", "query")
    (True, False)
    >>> name_matches("blocks.0.cross_attn.out", "attn.out")
    False
    """
    components = target.split(".")
    return name.split(".")[-len(components) :] == components


def find_targets(
    model: nn.Module, targets: Sequence[str], adapted: bool = False
) -> dict[str, nn.Linear]:
    """Return {module name: Linear} of every Linear that a target names, in model order.

    A Linear reachable under two names is listed once, under the first.

    Args:
        model: The model.
        targets: Ends of names.
        adapted: Whether a Linear may carry an adapter.

    Raises:
        ValueError: A target names nothing (gives near misses), or something that is not a Linear
            or whose forward is never called.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    for target in targets:
        if not any(name and name_matches(name, target) for name in modules):
            raise ValueError(_nothing(modules, target))

    linears: dict[str, nn.Linear] = {}
    seen: set[int] = set()
    for name, module in modules.items():
        matching = [target for target in targets if name and name_matches(name, target)]
        if matching and id(module) not in seen:
            seen.add(id(module))
            linears[name] = _checked_linear(modules, name, module, matching[0], adapted)
    return linears


def _linears(modules: dict[str, nn.Module]) -> list[str]:
    """Return the names of all Linears."""
    return [name for name, module in modules.items() if name and isinstance(module, nn.Linear)]


def _kinds(modules: dict[str, nn.Module]) -> list[str]:
    """Return the distinct last components of the names of all Linears that are not numbers."""
    names = [name.split(".") for name in _linears(modules)]
    ends = (".".join(parts[-2:]) if parts[-1].isdigit() else parts[-1] for parts in names)
    return list(dict.fromkeys(ends))


def _nothing(modules: dict[str, nn.Module], target: str) -> str:
    """Return the message for a target that names nothing."""
    linears = _linears(modules)
    if not linears:
        return f"target_modules: {target!r} names nothing: the model has no Linear at all"
    depth = target.count(".") + 1
    ends = {".".join(name.split(".")[-depth:]) for name in linears}
    kinds = _kinds(modules)
    hint = did_you_mean(target, ends, 3) or did_you_mean(target.split(".")[-1], kinds, 3)
    shown = ", ".join(kinds[:20]) + (f", ... ({len(kinds)} kinds)" if len(kinds) > 20 else "")
    return (
        f"target_modules: {target!r} names no module{hint or '.'} A target is compared with whole "
        f"dotted components at the end of module names; the Linears of this model end in: {shown}"
    )


def _checked_linear(
    modules: dict[str, nn.Module], name: str, module: nn.Module, target: str, adapted: bool
) -> nn.Linear:
    """Return `module` if an adapter can go on it; else raise ValueError."""
    # It is a Linear, without an adapter.
    if not isinstance(module, nn.Linear):
        inside = [n for n in _linears(modules) if n.startswith(name + ".")]
        inner = f" Linears inside it: {', '.join(inside[:6])}." if inside else ""
        raise ValueError(
            f"target_modules: {target!r} names {name}, a {type(module).__name__}; adapters go on "
            f"Linear modules only.{inner} Name a Linear, or write a longer end of its name"
        )
    if isinstance(module, AdapterLayer) and not adapted:
        raise ValueError(f"{name} already carries an adapter; add one to a fresh model")

    # Its weight is there, and its forward is called.
    weight = module._parameters.get("weight")
    if weight is None or is_lazy(weight):
        raise ValueError(
            f"target_modules: {target!r} names {name}, whose weight is not an ordinary parameter "
            "(parametrised, or not yet materialised); remove the parametrisation, or run the "
            "model once"
        )
    parent = modules.get(name.rpartition(".")[0])
    if isinstance(parent, (nn.MultiheadAttention, nn.TransformerEncoderLayer)):
        when = " in eval()" * isinstance(parent, nn.TransformerEncoderLayer)
        raise ValueError(
            f"target_modules: {target!r} names {name} inside {type(parent).__name__} of torch.nn, "
            f"which{when} reads its weight and never calls it: an adapter there would do nothing. "
            "Leave it out"
        )
    return module
