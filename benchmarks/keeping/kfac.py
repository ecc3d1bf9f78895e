"""A penalty by K-FAC, a rival of `lora_keep` that knows of gradients, too: for measurements only.

penalty = 1/2 * sum over Linears of tr(G dW A dW^T)

A = E[x x^T] is of the Linear's input and G = sum g g^T / tokens of the gradient g of the log
likelihood with respect to its output, both over all positions of old audio. As far as inputs and
gradients are independent (Martens and Grosse 2015, arXiv 1503.05671) it is KL(base || adapted) per
token of that audio to second order, in nats; `lora_ewc` takes the same of a diagonal. As a penalty
on LoRA: Chen and Garner 2024, arXiv 2402.12220.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor, nn

from espnet_blora.adapters.methods.lora import LoraLayer


class Curvature(NamedTuple):
    """What K-FAC knows of one Linear.

    Attributes:
        inputs: A, (d_in, d_in).
        outputs: G, (d_out, d_out).
    """

    inputs: Tensor
    outputs: Tensor


def curvatures[Utterance](
    linears: Mapping[str, nn.Linear],
    utterances: Iterable[Utterance],
    nll: Callable[[Utterance], tuple[Tensor, int]],
) -> dict[str, Curvature]:
    """Return A and G of each Linear, summed in float64.

    Args:
        linears: {name: Linear}, each of which is called in every `nll`.
        utterances: The data, in whatever form `nll` takes.
        nll: As of `fisher.diagonal_fisher`. No position that a Linear is given may be padding.
    """
    zeros = lambda d: torch.zeros(d, d, dtype=torch.float64)  # noqa: E731
    inputs = {name: zeros(linear.in_features) for name, linear in linears.items()}
    outputs = {name: zeros(linear.out_features) for name, linear in linears.items()}
    positions, tokens = dict.fromkeys(linears, 0), 0
    heard: list[tuple[str, Tensor, Tensor]] = []

    def probe(name: str, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Add zeros, whose gradient is that of the output."""
        nothing = torch.zeros_like(output, requires_grad=True)
        heard.append((name, given[0].detach(), nothing))
        return output + nothing

    with ExitStack() as hooks:
        for name, linear in linears.items():
            handle = linear.register_forward_hook(lambda _, *both, name=name: probe(name, *both))
            hooks.callback(handle.remove)
        for utterance in utterances:
            heard.clear()
            loss, length = nll(utterance)
            tokens += length
            gradients = torch.autograd.grad(loss, [nothing for *_, nothing in heard])
            for (name, given, _), gradient in zip(heard, gradients, strict=True):
                x, g = (each.flatten(0, -2).double() for each in (given, gradient))  # (positions,)
                inputs[name] += x.T @ x
                outputs[name] += g.T @ g
                positions[name] += len(x)
    return {
        name: Curvature((inputs[name] / positions[name]).float(), (outputs[name] / tokens).float())
        for name in linears
    }


def penalty(layers: Mapping[str, LoraLayer], known: Mapping[str, Curvature]) -> Tensor:
    """Return 1/2 * sum of tr(G dW A dW^T), 0-dim, differentiable; only r x r products of dW."""
    terms = []
    for name, layer in layers.items():
        down, up = layer.lora_A, layer.lora_B  # (r, d_in), (d_out, r)
        times = (layer.scaling * layer.context.factor) ** 2
        of_inputs = down @ known[name].inputs.to(down) @ down.T  # (r, r)
        of_outputs = up.T @ known[name].outputs.to(up) @ up
        terms.append(times * (of_inputs * of_outputs).sum())
    return 0.5 * torch.stack(terms).sum()
