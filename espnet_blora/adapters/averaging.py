"""Averages of checkpoints of one adapter, without mixing posterior scales or counters."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from espnet_blora.adapters.registry import METHODS
from espnet_blora.adapters.state import STATE_NAME, decode_signature


def average_states(
    states: Sequence[Mapping[str, Tensor]], best: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return `best` with its means replaced by their average over `states`.

    Means are what the method's layer calls so (`mean_names`): the factors of a LoRA. Scales (rho),
    step, signature, fingerprint and base weights are those of `best`: an average of scales belongs
    to no posterior, and integers and frozen weights are not to be averaged. What is the same in
    all states, such as a basis, stays as it is, bit for bit.

    Args:
        states: State dicts of one run.
        best: The state dict of its best checkpoint.

    Raises:
        ValueError: There is no state, no mean to average, or keys or shapes differ.
    """
    # Which keys are averaged, and whether all states have them.
    if not states:
        raise ValueError("no state to average; give at least one")
    names = _mean_names(best)
    means = [key for key in best if not names.isdisjoint(key.split("."))]
    if not means:
        raise ValueError(
            f"the best state holds no {' / '.join(sorted(names))}: it is not of an adapter of ours"
        )
    for number, state in enumerate(states):
        if state.keys() != best.keys():
            odd = sorted(state.keys() ^ best.keys())
            raise ValueError(
                f"state {number} and the best state differ in {len(odd)} keys, such as {odd[0]}; "
                "average checkpoints of one run only"
            )
        for key in means:
            if state[key].shape != best[key].shape:
                raise ValueError(
                    f"state {number}: {key} has shape {tuple(state[key].shape)}, "
                    f"{tuple(best[key].shape)} in the best state; average one run only"
                )

    # The averages, formed in fp64.
    result = dict(best)
    for key in means:
        if not all(torch.equal(state[key], best[key]) for state in states):
            mean = torch.stack([state[key].double() for state in states]).mean(0)
            result[key] = mean.to(best[key].dtype)
    return result


def _mean_names(state: Mapping[str, Tensor]) -> frozenset[str]:
    """Return the components that mark a mean in a state of the method it says it is of."""
    for key, value in state.items():
        if key.endswith(f"{STATE_NAME}.signature"):
            method = decode_signature(value)["method"]
            if method in METHODS:
                return frozenset(METHODS[method].layer.mean_names)
    return frozenset(METHODS["lora"].layer.mean_names)
