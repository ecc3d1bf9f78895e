"""A weighted sum of named adapters, as one more adapter: a LoRA that holds all their factors."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from espnet_blora.adapters import checks
from espnet_blora.adapters.adapter import Adapter
from espnet_blora.adapters.inject import add_adapter
from espnet_blora.adapters.layer import as_product
from espnet_blora.adapters.named import find_named, find_present


@torch.no_grad()
def mix_adapters(model: nn.Module, weights: Mapping[str, float], name: str) -> Adapter:
    """Put on a LoRA whose update is the weighted sum of named adapters' updates, exactly.

    Its A and B hold theirs side by side (as `combination_type="cat"` of PEFT's
    `add_weighted_adapter`), so its rank is the sum of their ranks. It is trained, saved and
    exported like any other. Of a posterior it takes the means.

    Args:
        model: As of `set_adapter`.
        weights: Name -> weight, 1 as trained; may be negative.
        name: Of the new adapter, which computes from now on.

    Raises:
        ValueError: There is no such adapter, a weight is not a number, an update is not of the form
            alpha / r B A, or the name is taken; the model is unchanged then.
    """
    if not weights:
        raise ValueError("mix_adapters: name the adapters that are to be mixed, with their weights")
    present = find_present(model)
    factors: dict[str, tuple[list[Tensor], list[Tensor]]] = {}  # Linear -> all A, all B
    for other, given in weights.items():
        weight = checks.number("mix_adapters", f"weight of {other!r}", given)
        state = find_named(present, other)
        for linear, layer in state.layers.items():
            product = as_product(layer)
            if product is None:
                raise ValueError(
                    f"adapter '{other}' cannot be mixed: its update of {linear} ('{state.method}') "
                    "is not alpha / r B A"
                )
            down, up = product  # (r, d_in), (d_out, r)
            downs, ups = factors.setdefault(linear, ([], []))
            downs.append(down)
            ups.append(weight * layer.scaling * layer.context.factor * up)

    # One rank for all: the largest sum, with zeros where a Linear has less.
    trained_on = find_named(present, next(iter(weights))).trained_on
    rank = max(sum(len(down) for down in downs) for downs, _ in factors.values())
    mixed = add_adapter(
        model, "lora", name=name, rank=rank, alpha=rank, target_modules=list(factors)
    )
    for linear, (downs, ups) in factors.items():
        own = mixed.layers[linear].factors()
        down, up = torch.cat(downs), torch.cat(ups, dim=1)
        for factor in own.values():
            factor.zero_()
        own["lora_A"][: len(down)].copy_(down)
        own["lora_B"][:, : len(down)].copy_(up)
    mixed.state.trained_on = trained_on
    return mixed
