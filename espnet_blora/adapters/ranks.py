"""Ranks by depth: where a Linear stands in its stack of layers, and the U over the layers."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

# decoder.decoders.blocks.{i}. (ours), decoder.blocks.{i}. (openai-whisper), decoder.decoders.{i}.
# (ESPnet), decoder.layers.{i}. (Hugging Face); and the same of encoders.
_NUMBERED = re.compile(
    r"(?:^|\.)(encoder|decoder)\.(?:(?:encoders|decoders)\.)?(?:blocks\.|layers\.)?(\d+)(?:\.|$)"
)
_SIDE = re.compile(r"(?:^|\.)(encoder|decoder)(?:\.|$)")


@dataclass(frozen=True)
class Place:
    """Where a Linear stands: layer `index` (from 0) of `depth` in `stack`, of one `side`."""

    side: str
    stack: str
    index: int
    depth: int


@dataclass(frozen=True)
class LayerRank:
    """The rank of one layer, and whether it is one of the middle ones."""

    rank: int
    middle: bool


def u_shape(
    depth: int, r_high: int, r_low: int, theta1: float = 0.3, theta2: float = 0.7
) -> list[LayerRank]:
    """Return DAMA's rank of each of `depth` layers, first to last.

    With l from 1, e = floor(theta1 L), f = floor(theta2 L):
    early, l <= e: r_high - (l - 1) / (e - 1) * (r_high - r_low); r_high where e = 1.
    middle, e < l < f: r_low.
    late, l >= f: r_low + (l - f) / (L - f) * (r_high - r_low); r_high where f = L.
    Each is rounded to the nearest whole number, which gives the published parameter count.
    """
    early, late = (math.floor(round(theta * depth, 9)) for theta in (theta1, theta2))
    span = r_high - r_low
    ranks = []
    for layer in range(1, depth + 1):
        middle = early < layer < late
        if layer <= early:
            rank = r_high - span * ((layer - 1) / (early - 1) if early > 1 else 0.0)
        elif middle:
            rank = r_low
        else:
            rank = r_low + span * ((layer - late) / (depth - late) if late < depth else 1.0)
        ranks.append(LayerRank(round(rank), middle))
    return ranks


def places(model: nn.Module, names: Iterable[str]) -> dict[str, Place | str | None]:
    """Return where each named module stands: a Place; a side alone where it is in no numbered
    layer of it; None where it is in neither an encoder nor a decoder.

    The depth of a stack counts all of its layers, whatever modules are named.
    """
    depths: dict[str, int] = {}
    for name, _ in model.named_modules(remove_duplicate=False):
        match = _NUMBERED.search(name)
        if match:
            stack = name[: match.start(2) - 1]
            depths[stack] = max(depths.get(stack, 0), int(match[2]) + 1)
    found: dict[str, Place | str | None] = {}
    for name in names:
        match, side = _NUMBERED.search(name), _SIDE.search(name)
        if match:
            stack = name[: match.start(2) - 1]
            found[name] = Place(match[1], stack, int(match[2]), depths[stack])
        else:
            found[name] = side[1] if side else None
    return found
