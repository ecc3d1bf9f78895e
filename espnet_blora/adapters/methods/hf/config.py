"""Options of the methods from Hugging Face PEFT, and each target Linear's own ones.

The options are in this package's own words, not in PEFT's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from torch import nn

from espnet_blora.adapters import checks
from espnet_blora.adapters.config import PER_LAYER, AdapterConfig, option
from espnet_blora.adapters.methods.lora import LoraConfig
from espnet_blora.adapters.methods.svd_layer import SvdLoraConfig


class Shared:
    """What the layers of one adapter have in common: the first of them, which owns the tensors."""

    owner: Any = None


# ---- methods with an alpha ----


@dataclass(frozen=True)
class HfLoraConfig(LoraConfig):
    """Options of the methods that are a LoRA at heart: those of `lora`.

    PEFT multiplies by alpha / rank itself, so that a layer's own `scaling` is 1.
    """

    def scaling_at(self, rank: int) -> float:
        """Return 1: alpha / rank is inside PEFT's forward."""
        return 1.0


@dataclass(frozen=True)
class DoraConfig(HfLoraConfig):
    """Options of `dora` (arXiv 2402.09353): W = m * (W0 + D) / ||W0 + D||, D = alpha / rank * B A.

    Trained: lora_A, lora_B and m (one number per output, ||W0|| at the start). The norm counts as a
    constant in the backward pass, as in the paper.
    """

    method: ClassVar[str] = "dora"


@dataclass(frozen=True)
class PissaConfig(HfLoraConfig, SvdLoraConfig):
    """Options of `pissa` (arXiv 2404.02948): W = W0 + alpha / rank * (B A - B0 A0).

    B0 A0 is the part of W0 in its `rank` largest singular triplets, where B and A start. PEFT
    subtracts it from the base; here the base stays, and B0, A0 are stored beside the adapter.

    Attributes:
        alpha: The update is scaled by alpha / rank; by default the rank, so not at all.
        niter: null for an exact SVD, else that many subspace iterations of a fast one (16 in the
            paper), which draws random numbers.
    """

    method: ClassVar[str] = "pissa"
    alpha_of_rank: ClassVar[float] = 1.0

    niter: int | None = option(None, checks.integer, low=1)


@dataclass(frozen=True)
class LoraFaConfig(HfLoraConfig):
    """Options of `lora_fa` (arXiv 2308.03303): a LoRA whose random lora_A is frozen.

    Attributes:
        seed: Of lora_A, which is therefore the same on every rank and in every run.
    """

    method: ClassVar[str] = "lora_fa"

    seed: int = option(0, checks.integer, low=0)


@dataclass(frozen=True)
class MicaConfig(HfLoraConfig, SvdLoraConfig):
    """Options of `mica` (arXiv 2604.01694): lora_B is frozen, lora_A starts at 0 and is trained.

    lora_B holds the left singular vectors of W0 of its `rank` smallest singular values.
    """

    method: ClassVar[str] = "mica"


@dataclass(frozen=True)
class AdaLoraConfig(HfLoraConfig):
    """Options of `adalora` (arXiv 2303.10512): W = W0 + alpha / rank * B diag(E) A.

    Trained: lora_A, lora_B, lora_E. The triplets that matter least are put to 0 on the way, over
    all layers together, until `target_rank` per layer are left on average.

    Attributes:
        rank: Triplets of each layer at the start (PEFT's init_r).
        target_rank: Triplets of a layer at the end, on average (target_r).
        total_steps: Steps of the optimiser in the whole training: batches / accum_grad * max_epoch.
        warmup_steps: Steps before the first triplet is put to 0 (tinit); by default a tenth of
            `total_steps`.
        final_steps: Steps after the last triplet is put to 0 (tfinal); by default three tenths of
            `total_steps`.
        interval: Steps between two choices (deltaT).
        beta1: Decay of the running mean of importance.
        beta2: Decay of the running mean of the importance's uncertainty.
        orth_weight: Weight of the penalty |A A^T - I| + |B^T B - I| in the loss.
    """

    method: ClassVar[str] = "adalora"

    rank: int = option(48, checks.integer, low=1)
    alpha: float = option(32.0, checks.number, low=0.0, open_low=True)
    target_rank: int = option(32, checks.integer, low=1)
    total_steps: int | None = option(None, checks.integer, low=2)
    warmup_steps: int | None = option(None, checks.integer, low=0)
    final_steps: int | None = option(None, checks.integer, low=0)
    interval: int = option(10, checks.integer, low=1)
    beta1: float = option(0.85, checks.number, low=0.0, high=1.0, open_low=True, open_high=True)
    beta2: float = option(0.85, checks.number, low=0.0, high=1.0, open_low=True, open_high=True)
    orth_weight: float = option(0.5, checks.number, low=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target_rank >= self.rank:
            raise ValueError(
                f"{self.where}: target_rank is {self.target_rank} and rank {self.rank}; allowed: a "
                "target_rank below rank, as the method only ever removes"
            )

        # The schedule: warm-up, choices, final steps.
        if self.total_steps is None:
            raise ValueError(
                f"{self.where}: total_steps is missing; the budget shrinks on a schedule over the "
                "whole training. Give the steps of the optimiser: batches per epoch / accum_grad * "
                "max_epoch (ESPnet's log has the batches)"
            )
        for key, share in (("warmup_steps", 0.1), ("final_steps", 0.3)):
            if getattr(self, key) is None:
                self._set(key, int(share * self.total_steps))
        if self.last_choice <= (self.warmup_steps or 0):
            raise ValueError(
                f"{self.where}: warmup_steps {self.warmup_steps} + final_steps {self.final_steps} "
                f"leave nothing of total_steps {self.total_steps}; allowed: a sum below it"
            )

    @property
    def last_choice(self) -> int:
        """The step of the optimiser at which the budget is final: total_steps - final_steps."""
        return (self.total_steps or 0) - (self.final_steps or 0)


# ---- methods without an alpha ----


@dataclass(frozen=True)
class HfConfig(AdapterConfig):
    """Options of the methods without an alpha.

    Attributes:
        rank: See the method.
        dropout_rate: Dropout on the update's input, in training.
    """

    structural: ClassVar[tuple[str, ...]] = ("rank",)

    rank: int | None = option(None, checks.integer, low=1)
    dropout_rate: float = option(0.0, checks.number, low=0.0, high=1.0, open_high=True)


@dataclass(frozen=True)
class VeraConfig(HfConfig):
    """Options of `vera` (arXiv 2310.11454): W = W0 + diag(b) B diag(d) A.

    Trained: b (one number per output, 0 at the start) and d (one per rank). A and B are random,
    frozen and shared by all layers, each of which uses the part that fits it.

    Attributes:
        rank: Rows of A.
        d_initial: Where d starts.
        seed: Of A and B.
    """

    method: ClassVar[str] = "vera"

    rank: int = option(256, checks.integer, low=1)
    d_initial: float = option(0.1, checks.number)
    seed: int = option(0, checks.integer, low=0)
    shared: Shared | None = field(default=None, metadata=PER_LAYER, compare=False, repr=False)
    widest: tuple[int, int] | None = field(default=None, metadata=PER_LAYER)

    def plan(self, model: nn.Module, linears: Mapping[str, nn.Linear]) -> dict[str, Self]:
        """Let all layers share one A and one B, as large as the widest layers need."""
        widest = (
            max(linear.in_features for linear in linears.values()),
            max(linear.out_features for linear in linears.values()),
        )
        return dict.fromkeys(linears, replace(self, shared=Shared(), widest=widest))


@dataclass(frozen=True)
class VbLoraConfig(HfConfig):
    """Options of `vblora` (arXiv 2405.15179): a LoRA whose factors are pieced together from a bank.

    Each piece of `vector_length` entries of A and B is a mixture of the `topk` vectors of a bank
    which its logits rate highest; bank and logits are trained. It starts near its base, not at it.

    Attributes:
        rank: Rows of A.
        num_vectors: Vectors in the bank, shared by all layers.
        vector_length: Divides every width of the targets; by default the largest number that does.
        topk: Vectors of the bank per mixture.
        init_bank_bound: The bank starts uniform in +- this.
        init_logits_std: Standard deviation of the logits' start.
    """

    method: ClassVar[str] = "vblora"
    structural: ClassVar[tuple[str, ...]] = ("rank", "num_vectors", "vector_length", "topk")

    rank: int = option(4, checks.integer, low=1)
    num_vectors: int = option(256, checks.integer, low=1)
    vector_length: int | None = option(None, checks.integer, low=1)
    topk: int = option(2, checks.integer, low=1)
    init_bank_bound: float = option(0.02, checks.number, low=0.0, open_low=True)
    init_logits_std: float = option(0.1, checks.number, low=0.0, open_low=True)
    shared: Shared | None = field(default=None, metadata=PER_LAYER, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.topk > self.num_vectors:
            raise ValueError(
                f"{self.where}: topk is {self.topk}, but the bank has num_vectors "
                f"{self.num_vectors}; allowed: a topk up to num_vectors"
            )

    def plan(self, model: nn.Module, linears: Mapping[str, nn.Linear]) -> dict[str, Self]:
        """Let all layers share one bank, of vectors that fit all widths.

        Raises:
            ValueError: `vector_length` does not divide a width; names the Linear.
        """
        widths = {n: (li.in_features, li.out_features) for n, li in linears.items()}
        longest = math.gcd(*(width for pair in widths.values() for width in pair))
        length = self.vector_length or longest
        for name, pair in widths.items():
            if any(width % length for width in pair):
                raise ValueError(
                    f"{self.where}: vector_length is {length}, but {name} maps {pair[0]} to "
                    f"{pair[1]}; allowed: divisors of {longest}, the largest number that divides "
                    "all widths of target_modules"
                )
        return dict.fromkeys(linears, replace(self, vector_length=length, shared=Shared()))


@dataclass(frozen=True)
class OsfConfig(HfConfig):
    """Options of `osf` (arXiv 2504.07097): all but the largest singular triplets of W0 are trained.

    Gradients are projected off the span of those that are kept. Not small: with half of the
    triplets of a square weight, as many numbers are trained as the weight has, and stored twice.

    Attributes:
        rank: Triplets that are trained, the smallest; by default half of the smaller width.
    """

    method: ClassVar[str] = "osf"

    def of_linear(self, name: str, linear: nn.Linear) -> Self:
        """Return the options of one Linear: how many triplets are trained.

        Raises:
            ValueError: The Linear does not have more singular triplets than `rank`; names it.
        """
        size = min(linear.in_features, linear.out_features)
        rank = size // 2 if self.rank is None else self.rank
        if not 1 <= rank < size:
            raise ValueError(
                f"{self.where}: rank {rank} of {name}, whose weight is "
                f"{linear.out_features} x {linear.in_features}; allowed: 1 to {size - 1} trained "
                "triplets, since the largest are kept"
            )
        return replace(self, rank=rank)
