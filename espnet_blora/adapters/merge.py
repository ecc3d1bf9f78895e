"""Merging the update into the weight that forward reads, and taking it out again.

`weight` itself is never written: the sum stands beside it, so unmerging is exact, merging twice is
merging once, and a state dict saved in merged state holds the base and the factors as always.
It costs one more copy of each target weight.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from espnet_blora.adapters.layer import AdapterLayer, wide


def as_product(layer: AdapterLayer) -> tuple[Tensor, Tensor] | None:
    """Return A (r, d_in) and B (d_out, r), fp32 or better, where the update is scaling * B A.

    None where it is something else.
    """
    factors = layer.factors()
    if not {"lora_A", "lora_B"} <= factors.keys():
        return None
    down, up = (wide(factors[name].detach()) for name in ("lora_A", "lora_B"))
    if down.dim() != 2 or up.dim() != 2 or up.shape[1] != len(down):
        return None
    update = layer.delta_weight().detach()
    product = layer.scaling * layer.context.factor * (up @ down)
    return (down, up) if torch.allclose(update, product, rtol=1e-4, atol=1e-7) else None


@torch.no_grad()
def merge_layers(layers: Mapping[str, AdapterLayer]) -> None:
    """Form W0 + delta_weight() for every layer, then switch all of them over.

    The sum is formed in fp32 or better and rounded once to the weight's dtype.

    Raises:
        ValueError: A sum holds NaN or inf; no layer is merged then.
    """
    sums = {}
    for name, layer in layers.items():
        if layer.merged:
            continue
        layer.prepare()
        delta = layer.delta_weight()
        total = (layer.weight.to(delta.dtype) + delta).to(layer.weight.dtype)  # (d_out, d_in)
        if not total.is_meta and not bool(torch.isfinite(total).all()):
            raise ValueError(
                f"{name}: base weight + update holds NaN or inf; nothing was merged. Training "
                "diverged, or the update overflows the weight's dtype: load an earlier checkpoint"
            )
        sums[name] = total
    for name, total in sums.items():
        layers[name].merged_weight = total


def unmerge_layers(layers: Mapping[str, AdapterLayer]) -> None:
    """Drop the sums; forward is factored again, on the same base bits as ever."""
    for layer in layers.values():
        layer.merged_weight = None


def bake_layers(layers: Mapping[str, AdapterLayer]) -> None:
    """Turn merged layers into plain Linears, in place: W0 + delta is their weight, nothing is left.

    For decoding and export only: a merged adapter's forward costs some microseconds more per layer,
    and keeps the base beside the sum. The model's adapter has no layers any more: drop its handle.
    The Linears' class must add no attributes to nn.Linear's (openai-whisper's adds none).

    Raises:
        ValueError: A layer is not merged; no layer is changed then.
    """
    factored = [name for name, layer in layers.items() if not layer.merged]
    if factored:
        raise ValueError(f"{factored[0]} is not merged ({len(factored)} such): call merge() first")
    for layer in layers.values():
        assert layer.merged_weight is not None
        plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        plain.weight = nn.Parameter(layer.merged_weight, requires_grad=False)
        plain.bias = layer.bias
        plain.training = layer.training
        linear: nn.Linear = layer
        linear.__class__ = layer.base_class
        linear.__dict__.clear()
        linear.__dict__.update(plain.__dict__)
