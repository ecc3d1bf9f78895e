"""What an adapter costs and how its posterior stands."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from espnet_blora.adapters.layer import AdapterLayer
from espnet_blora.adapters.targets import name_matches

SMALL = 1e-3
QUANTILES = (0.05, 0.5, 0.95)
_QUANTILE_SAMPLE = 1_000_000  # torch.quantile sorts, and refuses more than 16 M elements


class Report(dict):
    """Counts as a dict; as text, the line that adapter users look for, and one line per target."""

    def __str__(self) -> str:
        lines = [
            f"adapter '{self['method']}' on {self['layers']} Linears: trainable parameters "
            f"{self['trainable']:,} of {self['total']:,} ({100 * self['share']:.3f} %)"
        ]
        for target, counts in self["targets"].items():
            lines.append(f"  {target}: {counts['layers']} Linears, {counts['trainable']:,}")
        return "\n".join(lines)


def report(model: nn.Module, method: str, layers: Mapping[str, AdapterLayer], targets) -> Report:
    """Count parameters of `model`: trainable, total, share, and trainable per target."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    per_target = {}
    for target in targets:
        hits = [layer for name, layer in layers.items() if name_matches(name, target)]
        count = sum(p.numel() for hit in hits for p in hit.parameters() if p.requires_grad)
        per_target[target] = {"layers": len(hits), "trainable": count}
    return Report(
        method=method,
        layers=len(layers),
        trainable=trainable,
        total=total,
        share=trainable / total,
        targets=per_target,
    )


@torch.no_grad()
def statistics(layers: Sequence[AdapterLayer]) -> dict[str, Tensor]:
    """Return detached 0-dim fp32 tensors describing the factors over all layers.

    mean_norm_A / _B: root mean square of the means. small_share_A / _B: share of |mean| < 1e-3.
    sigma_A_q05, _q50, _q95 (and _B when it is trained): quantiles of the posterior scale.
    largest_mean: the largest |mean| of both factors.
    """
    result: dict[str, Tensor] = {}
    largest = []
    for letter in ("A", "B"):
        means = torch.cat([getattr(layer, f"lora_{letter}").flatten() for layer in layers]).float()
        size = means.abs()
        largest.append(size.max())
        result[f"mean_norm_{letter}"] = means.square().mean().sqrt()
        result[f"small_share_{letter}"] = (size < SMALL).float().mean()
        rhos = [layer._parameters.get(f"rho_{letter}") for layer in layers]
        if all(rho is not None for rho in rhos):
            sigma = nn.functional.softplus(torch.cat([rho.flatten() for rho in rhos]).float())
            sigma = sigma[:: -(-sigma.numel() // _QUANTILE_SAMPLE)]
            marks = torch.quantile(sigma, torch.tensor(QUANTILES, device=sigma.device))
            for quantile, mark in zip(QUANTILES, marks, strict=True):
                result[f"sigma_{letter}_q{round(100 * quantile):02d}"] = mark
    result["largest_mean"] = torch.maximum(*largest)
    return result
