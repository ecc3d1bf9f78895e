"""Which Linears of a model an adapter goes on: whole dotted components at the end of the name."""

from collections.abc import Sequence

from torch import nn
from torch.nn.parameter import is_lazy

from espnet_blora.adapters.checks import near_misses
from espnet_blora.adapters.layer import AdapterLayer


def name_matches(name: str, target: str) -> bool:
    """Whether `target` is `name` or ends it in whole components.

    `query` matches `blocks.0.attn.query`, not `blocks.0.my_query`; `attn.out` matches
    `blocks.0.attn.out`, not `blocks.0.cross_attn.out`.
    """
    wanted = target.split(".")
    return name.split(".")[-len(wanted) :] == wanted


def find_targets(model: nn.Module, targets: Sequence[str]) -> dict[str, nn.Linear]:
    """Return {module name: Linear} of every Linear that a target names, in model order.

    A Linear reachable under two names is listed once, under the first.

    Raises ValueError when a target names nothing (with near misses), or something that is not a
    Linear or whose forward is never called.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    found: dict[str, nn.Linear] = {}
    seen: set[int] = set()
    for target in targets:
        if not any(name and name_matches(name, target) for name in modules):
            raise ValueError(_nothing(modules, target))
    for name, module in modules.items():
        target = next((t for t in targets if name and name_matches(name, t)), None)
        if target is None or id(module) in seen:
            continue
        seen.add(id(module))
        _check_linear(modules, name, module, target)
        found[name] = module
    return found


def _linears(modules: dict[str, nn.Module]) -> list[str]:
    return [name for name, module in modules.items() if name and isinstance(module, nn.Linear)]


def _kinds(modules: dict[str, nn.Module]) -> list[str]:
    """Return the distinct last components of the names of all Linears that are not numbers."""
    ends = []
    for name in _linears(modules):
        parts = name.split(".")
        end = ".".join(parts[-2:]) if parts[-1].isdigit() else parts[-1]
        if end not in ends:
            ends.append(end)
    return ends


def _nothing(modules: dict[str, nn.Module], target: str) -> str:
    linears = _linears(modules)
    if not linears:
        return f"target_modules: {target!r} names nothing: the model has no Linear at all"
    depth = target.count(".") + 1
    ends = {".".join(name.split(".")[-depth:]) for name in linears}
    near = near_misses(target, ends) or near_misses(target.split(".")[-1], _kinds(modules))
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    kinds = _kinds(modules)
    shown = ", ".join(kinds[:20]) + (f", ... ({len(kinds)} kinds)" if len(kinds) > 20 else "")
    return (
        f"target_modules: {target!r} names no module{hint} A target is compared with whole dotted "
        f"components at the end of module names; the Linears of this model end in: {shown}"
    )


def _check_linear(modules: dict[str, nn.Module], name: str, module: nn.Module, target: str) -> None:
    if not isinstance(module, nn.Linear):
        inside = [n for n in _linears(modules) if n.startswith(name + ".")]
        inner = f" Linears inside it: {', '.join(inside[:6])}." if inside else ""
        raise ValueError(
            f"target_modules: {target!r} names {name}, a {type(module).__name__}; adapters go on "
            f"Linear modules only.{inner} Name a Linear, or write a longer end of its name"
        )
    if isinstance(module, AdapterLayer):
        raise ValueError(f"{name} already carries an adapter; add one to a fresh model")
    weight = module._parameters.get("weight")
    if weight is None or is_lazy(weight):
        raise ValueError(
            f"target_modules: {target!r} names {name}, whose weight is not an ordinary parameter "
            "(parametrised, or not yet materialised); remove the parametrisation, or run the "
            "model once"
        )
    parent = modules.get(name.rpartition(".")[0])
    if isinstance(parent, nn.MultiheadAttention):
        raise ValueError(
            f"target_modules: {target!r} names {name} inside torch.nn.MultiheadAttention, which "
            "reads its weight and never calls it: an adapter there would do nothing. Leave it out"
        )
