"""DAMA (arXiv 2602.01008): LoRA with ranks by depth, its middle layers on protected bases.

Ranks form a U over the layers of the decoder (`u_shape`). In the middle layers lora_A holds right
singular vectors of the base weight, from the tail of its spectrum, and is frozen: the update reads
only directions that the base hardly uses. Early and late layers are ordinary LoRA.
"""

import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from espnet_blora.adapters import checks
from espnet_blora.adapters.config import PER_LAYER, option
from espnet_blora.adapters.context import Context
from espnet_blora.adapters.methods.lora import LoraConfig, LoraLayer
from espnet_blora.adapters.methods.svd_layer import svd

log = logging.getLogger(__name__)

SCOPES = {"decoder": ("decoder",), "encoder": ("encoder",), "both": ("encoder", "decoder")}
SCALING_RULES = ("alpha_over_r", "alpha_over_rhigh", "rslora", "none")


# ---- ranks by depth ----

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

    >>> [layer.rank for layer in u_shape(12, r_high=32, r_low=8)]
    [32, 20, 8, 8, 8, 8, 8, 8, 14, 20, 26, 32]
    """
    early, late = (math.floor(round(theta * depth, 9)) for theta in (theta1, theta2))
    span = r_high - r_low
    ranks = []
    for number in range(1, depth + 1):
        middle = early < number < late
        if number <= early:
            rank = r_high - span * ((number - 1) / (early - 1) if early > 1 else 0.0)
        elif middle:
            rank = r_low
        else:
            rank = r_low + span * ((number - late) / (depth - late) if late < depth else 1.0)
        ranks.append(LayerRank(round(rank), middle))
    return ranks


def places(model: nn.Module, names: Iterable[str]) -> dict[str, Place | str | None]:
    """Return where each named module stands.

    Returns:
        By name: a Place; or only the side, where it is in no numbered layer of it; or None, where
        it is in neither an encoder nor a decoder. The depth of a stack counts all of its layers,
        whatever modules are named.
    """
    depths: dict[str, int] = {}
    for name, _ in model.named_modules(remove_duplicate=False):
        match = _NUMBERED.search(name)
        if match:
            stack = name[: match.start(2) - 1]
            depths[stack] = max(depths.get(stack, 0), int(match[2]) + 1)

    by_name: dict[str, Place | str | None] = {}
    for name in names:
        match, side = _NUMBERED.search(name), _SIDE.search(name)
        if match:
            stack = name[: match.start(2) - 1]
            by_name[name] = Place(match[1], stack, int(match[2]), depths[stack])
        else:
            by_name[name] = side[1] if side else None
    return by_name


# ---- the method ----


@dataclass(frozen=True)
class DamaConfig(LoraConfig):
    """Options of `dama`; defaults are the paper's where it prints one.

    Attributes:
        r_high: Rank at both ends of the stack; never above a weight's sizes.
        r_low: Rank in the middle of the stack; never above a weight's sizes.
        theta1: The layers up to floor(theta1 L) of L are early.
        theta2: The layers from floor(theta2 L) on are late.
        alpha: The update is scaled by it as `scaling_rule` says.
        scaling_rule: `alpha_over_r` (alpha / r of that layer), `alpha_over_rhigh` (alpha / r_high),
            `rslora` (alpha / sqrt(r)) or `none` (1).
        scope: `decoder` (the paper's), `encoder` or `both`, each stack with its own U.
        init: lora_A of the middle layers: `svd`, or `random` as elsewhere.
        tail: Which right singular vectors: the `last` r, or the `next` v_{r+1} to v_{2r}.
        svd: `thin`, or `full`: of weights wider than high the null space counts as the tail.
        train_mid_A: Whether lora_A of the middle layers is trained, too (no protected basis).
    """

    method: ClassVar[str] = "dama"
    structural: ClassVar[tuple[str, ...]] = (
        "r_high", "r_low", "theta1", "theta2", "alpha", "scaling_rule", "scope", "train_mid_A",
    )  # fmt: skip

    rank: int = field(default=0, metadata=PER_LAYER)  # r_high, until `at` sets a layer's own
    middle: bool = field(default=False, metadata=PER_LAYER)
    r_high: int = option(32, checks.integer, low=1)
    r_low: int = option(8, checks.integer, low=1)
    theta1: float = option(0.3, checks.number, low=0.0, high=1.0)
    theta2: float = 0.7
    alpha: float = option(32.0, checks.number, low=0.0, open_low=True)
    scaling_rule: str = option("alpha_over_r", checks.one_of, allowed=SCALING_RULES)
    scope: str = option("decoder", checks.one_of, allowed=SCOPES)
    init: str = option("svd", checks.one_of, allowed=("svd", "random"))
    tail: str = option("last", checks.one_of, allowed=("last", "next"))
    svd: str = option("thin", checks.one_of, allowed=("thin", "full"))
    train_mid_A: bool = option(False, checks.flag)
    target_modules: tuple[str, ...] = option(
        ("query", "key", "value", "out", "mlp.0", "mlp.2"), checks.names
    )

    def scaling_at(self, rank: int) -> float:
        """Return the scale of the update of a layer of this rank, by `scaling_rule`."""
        if self.scaling_rule == "none":
            return 1.0
        if self.scaling_rule == "rslora":
            return self.alpha / rank**0.5
        return self.alpha / (self.r_high if self.scaling_rule == "alpha_over_rhigh" else rank)

    def at(self, rank: int, middle: bool) -> Self:
        """Return the options of one Linear."""
        return replace(self, rank=rank, middle=middle)

    def plan(self, model: nn.Module, linears: Mapping[str, nn.Linear]) -> dict[str, Self]:
        """Return the options of every target Linear in scope, with the rank of its layer.

        Raises:
            ValueError: No target is in scope, or one is in no numbered layer.
        """
        # The ranks of a stack are computed once, where its first target is met.
        sides = SCOPES[self.scope]
        plan: dict[str, Self] = {}
        stacks: dict[str, list[LayerRank]] = {}
        for name, place in places(model, linears).items():
            if isinstance(place, Place) and place.side in sides:
                if place.stack not in stacks:
                    stacks[place.stack] = _ranks(place, self)
                layer = stacks[place.stack][place.index]
                linear = linears[name]
                rank = min(layer.rank, linear.in_features, linear.out_features)
                plan[name] = self.at(rank, layer.middle)
            elif place in sides:
                raise ValueError(
                    f"target_modules: {name} is in no numbered layer of the {place}, and "
                    f"{self.method} takes ranks from the number of the layer; leave it out"
                )

        if not plan:
            raise ValueError(
                f"adapter {self.method}: none of the {len(linears)} targets, such as "
                f"{next(iter(linears))}, is in a layer of scope: {self.scope}. Expected are names "
                "such as decoder.decoders.blocks.0.attn.query or "
                "decoder.decoders.0.self_attn.linear_q"
            )
        if len(plan) < len(linears):
            log.info(
                "adapter '%s': scope: %s leaves out %d of %d targets",
                self.method, self.scope, len(linears) - len(plan), len(linears),
            )  # fmt: skip
        return plan

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.r_low > self.r_high:
            raise ValueError(
                f"{self.where}: r_low is {self.r_low}; allowed: 1 to r_high {self.r_high}"
            )
        self._check(checks.number, "theta2", low=self.theta1, high=1.0)
        if not self.rank:
            self._set("rank", self.r_high)


class DamaLayer(LoraLayer):
    """A LoRA layer; in the middle, lora_A is computed from the base weight and frozen.

    Attributes:
        lora_A: (r, d_in), in the middle a buffer with orthonormal rows, unless `train_mid_A`.
        choice: The options `init`, `tail` and `svd`.
    """

    choice: tuple[str, str, str]

    def start(self, config: Any, context: Context, index: int) -> None:
        """Add the factors."""
        super().start(config, context, index)
        if not config.middle:
            return
        self.choice = (config.init, config.tail, config.svd)
        if not config.train_mid_A:
            random_start = self.lora_A.detach()
            del self.lora_A
            self.register_buffer("lora_A", random_start)
        if config.init == "svd" or not config.train_mid_A:
            self.declare_bases("lora_A")

    def compute_basis(self, weight: Tensor) -> dict[str, Tensor]:
        """Return the rows of lora_A: the chosen right singular vectors, or the random start."""
        init, tail, kind = self.choice
        if init == "random":
            return {"lora_A": self.lora_A}
        _, _, vh = svd(weight, full=kind == "full" and weight.shape[0] < weight.shape[1])
        last = len(vh) - self.rank
        first = last if tail == "last" else min(self.rank, last)
        return {"lora_A": vh[first : first + self.rank]}  # (r, d_in)


def _ranks(place: Place, config: DamaConfig) -> list[LayerRank]:
    """Return the ranks of a stack, and log them."""
    ranks = u_shape(place.depth, config.r_high, config.r_low, config.theta1, config.theta2)
    middle = [number for number, layer in enumerate(ranks, 1) if layer.middle]
    log.info(
        "adapter '%s': ranks of the %d layers of %s: %s; middle layers: %s",
        config.method,
        place.depth,
        place.stack,
        " ".join(str(layer.rank) for layer in ranks),
        f"{middle[0]} to {middle[-1]}" if middle else "none",
    )
    if not middle:
        log.warning(
            "adapter '%s': %s has %d layers, so with theta1 %g and theta2 %g none is in the "
            "middle: every layer is an ordinary LoRA. Move them apart for a protected basis",
            config.method, place.stack, place.depth, config.theta1, config.theta2,
        )  # fmt: skip
    return ranks
