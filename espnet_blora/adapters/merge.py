"""Merge the update into the weight that forward reads, and take it out again.

`weight` itself is never written: the sum stands beside it, so unmerging is exact, merging twice is
merging once, and a state dict saved in merged state holds the base and the factors as always.
It costs one more copy of each target weight.
"""

from collections.abc import Mapping

import torch

from espnet_blora.adapters.layer import AdapterLayer


@torch.no_grad()
def merge_layers(layers: Mapping[str, AdapterLayer]) -> None:
    """Form W0 + delta_weight() for every layer, then switch all of them over.

    The sum is formed in fp32 or better and rounded once to the weight's dtype.

    Raises ValueError, with no layer merged, when a sum holds NaN or inf.
    """
    sums = {}
    for name, layer in layers.items():
        if layer.merged:
            continue
        layer.prepare()
        delta = layer.delta_weight()
        total = (layer.weight.to(delta.dtype) + delta).to(layer.weight.dtype)
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
