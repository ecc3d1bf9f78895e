"""What each target Linear gets of the options of a method from PEFT: sizes, and shared tensors."""

import math
from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from espnet_blora.adapters.hf_config import (
    HfLoraConfig,
    OsfConfig,
    Shared,
    VbLoraConfig,
    VeraConfig,
)
from espnet_blora.adapters.svd_layer import check_rank


def plan_svd(
    model: nn.Module, linears: Mapping[str, nn.Linear], config: HfLoraConfig
) -> dict[str, HfLoraConfig]:
    """Check that every target has as many singular vectors as `rank` asks for."""
    for name, linear in linears.items():
        check_rank(f"adapter_conf of {config.method}", name, linear, config.rank, "rank")
    return dict.fromkeys(linears, config)


def plan_vera(
    model: nn.Module, linears: Mapping[str, nn.Linear], config: VeraConfig
) -> dict[str, VeraConfig]:
    """Let all layers share one A and one B, as large as the widest need."""
    widest = tuple(max(getattr(li, f"{side}_features") for li in linears.values())
                   for side in ("in", "out"))  # fmt: skip
    return dict.fromkeys(linears, replace(config, shared=Shared(), widest=widest))


def plan_vblora(
    model: nn.Module, linears: Mapping[str, nn.Linear], config: VbLoraConfig
) -> dict[str, VbLoraConfig]:
    """Let all layers share one bank, of vectors that fit all widths."""
    widths = {n: (li.in_features, li.out_features) for n, li in linears.items()}
    longest = math.gcd(*(width for pair in widths.values() for width in pair))
    length = config.vector_length or longest
    for name, pair in widths.items():
        if any(width % length for width in pair):
            raise ValueError(
                f"adapter_conf of {config.method}: vector_length is {length}, but {name} maps "
                f"{pair[0]} to {pair[1]}; allowed: divisors of {longest}, the largest number that "
                "divides all widths of target_modules"
            )
    shared = replace(config, vector_length=length, shared=Shared())
    return dict.fromkeys(linears, shared)


def plan_osf(
    model: nn.Module, linears: Mapping[str, nn.Linear], config: OsfConfig
) -> dict[str, OsfConfig]:
    """Give every layer the number of triplets it trains."""
    configs = {}
    for name, linear in linears.items():
        size = min(linear.in_features, linear.out_features)
        rank = size // 2 if config.rank is None else config.rank
        if not 1 <= rank < size:
            raise ValueError(
                f"adapter_conf of {config.method}: rank {rank} of {name}, whose weight is "
                f"{linear.out_features} x {linear.in_features}; allowed: 1 to {size - 1} trained "
                "triplets, since the largest are kept"
            )
        configs[name] = replace(config, rank=rank)
    return configs
