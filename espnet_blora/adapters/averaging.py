"""Average checkpoints of one adapter without mixing posterior scales or counters."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

MEANS = ("lora_A", "lora_B")


def average_states(
    states: Sequence[Mapping[str, Tensor]], best: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return `best` with its posterior means replaced by their average over `states`.

    Scales (rho), step, signature, fingerprint and base weights are those of `best`: an average of
    scales belongs to no posterior, and integers and frozen weights are not to be averaged.

    Raises ValueError when there is no state, no mean to average, or keys or shapes differ.
    """
    if not states:
        raise ValueError("no state to average; give at least one")
    means = [key for key in best if key.rpartition(".")[2] in MEANS]
    if not means:
        raise ValueError("the best state holds no lora_A / lora_B: it is of no adapter we average")
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
    result = dict(best)
    for key in means:
        total = torch.stack([state[key].double() for state in states]).mean(0)
        result[key] = total.to(best[key].dtype)
    return result
