"""Counts of an adapter's parameters, and statistics of its trained factors."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from espnet_blora.adapters.layer import AdapterLayer
from espnet_blora.adapters.targets import name_matches

SMALL = 1e-3
COLLAPSE_STEPS = 100  # before that, an update may be small because it is young
COLLAPSED_SHARE = 0.95
COLLAPSED_RATIO = 1e-4
QUANTILES = (0.05, 0.5, 0.95)
_QUANTILE_SAMPLE = 1_000_000  # torch.quantile sorts, and refuses more than 16 M elements


class Report(dict):
    """Counts as a dict; as text, the line that adapter users look for, and one line per target."""

    def __str__(self) -> str:
        lines = [
            f"adapter '{self['method']}' on {self['layers']} Linears: trainable parameters "
            f"{self['trainable']:,} of {self['total']:,} ({100 * self['share']:.3f} %)"
        ]
        if self["stored"]:
            lines.append(f"  stored beside them, frozen: {self['stored']:,} numbers")
        if len(set(self["ranks"])) > 1:
            lines.append("  ranks {} to {}".format(*self["ranks"]))
        for target, counts in self["targets"].items():
            lines.append(f"  {target}: {counts['layers']} Linears, {counts['trainable']:,}")
        return "\n".join(lines)


def report(
    model: nn.Module, method: str, layers: Mapping[str, AdapterLayer], targets: Sequence[str]
) -> Report:
    """Return the counts of parameters of `model`.

    Returns:
        `method`; `layers`, their number; `trainable` and `total` parameters and their `share`;
        `stored`, how many frozen numbers the adapter adds to a checkpoint (bases, fixed scales);
        `ranks`, the lowest and the highest rank of a layer; `targets`, layers and trainable
        parameters per target.
    """
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    per_target = {}
    for target in targets:
        named = [layer for name, layer in layers.items() if name_matches(name, target)]
        count = sum(p.numel() for layer in named for p in layer.parameters() if p.requires_grad)
        per_target[target] = {"layers": len(named), "trainable": count}
    frozen = [
        tensor
        for layer in layers.values()
        for tensor in layer.factors().values()
        if not tensor.requires_grad and tensor.is_floating_point()
    ]
    ranks = [layer.rank for layer in layers.values()]
    return Report(
        method=method,
        layers=len(layers),
        trainable=trainable,
        stored=sum(tensor.numel() for tensor in frozen),
        ranks=(min(ranks), max(ranks)),
        total=total,
        share=trainable / total,
        targets=per_target,
    )


@torch.no_grad()
def statistics(layers: Sequence[AdapterLayer]) -> dict[str, Tensor]:
    """Return detached 0-dim fp32 tensors describing the trained factors over all layers.

    Returns:
        `mean_norm_A` and `_B`, root mean square of the means; `small_share_A` and `_B`, share of
        |mean| < 1e-3; `sigma_A_q05`, `_q50`, `_q95` (and `_B` when it is trained), quantiles of the
        posterior scale; `largest_mean`, the largest |mean| of both factors.
    """
    result: dict[str, Tensor] = {}
    largest = []
    for letter in ("A", "B"):
        trained = _parameters(layers, f"lora_{letter}")
        if not trained:
            continue
        # The means of this factor.
        means = torch.cat([mean.flatten() for mean in trained]).float()
        size = means.abs()
        largest.append(size.max())
        result[f"mean_norm_{letter}"] = means.square().mean().sqrt()
        result[f"small_share_{letter}"] = (size < SMALL).float().mean()
        # Its scales, where they are trained.
        rhos = _parameters(layers, f"rho_{letter}")
        if rhos:
            sigma = nn.functional.softplus(torch.cat([rho.flatten() for rho in rhos]).float())
            sigma = sigma[:: -(-sigma.numel() // _QUANTILE_SAMPLE)]
            marks = torch.quantile(sigma, torch.tensor(QUANTILES, device=sigma.device))
            for quantile, mark in zip(QUANTILES, marks, strict=True):
                result[f"sigma_{letter}_q{round(100 * quantile):02d}"] = mark
    if largest:
        result["largest_mean"] = torch.stack(largest).max()
    return result


@torch.no_grad()
def update_ratio(layers: Sequence[AdapterLayer]) -> Tensor:
    """Return ||scaling * B A|| / ||W0|| over all layers (Frobenius norms), 0-dim fp32.

    By (r, r) products: the update itself is never formed.
    """
    update, base = [], []
    for layer in layers:
        factors = layer.factors()
        down, up = factors["lora_A"].float(), factors["lora_B"].float()  # (r, d_in), (d_out, r)
        update.append(layer.scaling**2 * ((up.T @ up) * (down @ down.T)).sum())
        base.append(layer.weight.float().square().sum())
    return (torch.stack(update).sum().clamp_min(0.0) / torch.stack(base).sum()).sqrt()


def collapsed(layers: Sequence[AdapterLayer], values: Mapping[str, Tensor], step: int) -> bool:
    """Return whether the KL has pulled the update to zero.

    Most of lora_B, or the update, is next to zero, whatever the learning rate lets entries jitter
    by; and lora_A, which then gets the KL's gradient alone, is below half of its start (uniform in
    +-1/sqrt(d_in)). In a slow warm-up of the learning rate both are where they started.

    Args:
        layers: All layers of the adapter.
        values: Their `statistics` and `update_ratio`.
        step: Micro-batches trained on.
    """
    if step < COLLAPSE_STEPS:
        return False
    means = _parameters(layers, "lora_A")
    start = sum(mean.numel() / (3 * mean.shape[1]) for mean in means)  # of the sum of squares
    count = sum(mean.numel() for mean in means)
    if means and float(values["mean_norm_A"]) > 0.5 * (start / count) ** 0.5:
        return False
    return (
        float(values["small_share_B"]) > COLLAPSED_SHARE
        or float(values["update_ratio"]) < COLLAPSED_RATIO
    )


def _parameters(layers: Sequence[AdapterLayer], name: str) -> list[Tensor]:
    """Return the parameters of this name, of the layers in which it is trained."""
    parameters = (layer._parameters.get(name) for layer in layers)
    return [parameter for parameter in parameters if parameter is not None]
