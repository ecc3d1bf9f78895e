"""Options of the methods that come from Hugging Face PEFT, in this package's own words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import nn

from espnet_blora.adapters import checks
from espnet_blora.adapters.config import PER_LAYER, AdapterConfig, LoraConfig
from espnet_blora.adapters.methods.svd_layer import check_rank


class Shared:
    """What the layers of one adapter have in common: the first of them, which owns the tensors."""

    owner = None


@dataclass(frozen=True)
class HfLoraConfig(LoraConfig):
    """Options of the methods that are a LoRA at heart: rank, alpha, dropout_rate, target_modules.

    PEFT multiplies by alpha / rank itself, so that a layer's own `scaling` is 1.
    """

    def scaling_at(self, rank: int) -> float:
        """Return 1: alpha / rank is inside PEFT's forward."""
        return 1.0


@dataclass(frozen=True)
class DoraConfig(HfLoraConfig):
    """Options of `dora` (arXiv 2402.09353): W = m * (W0 + D) / ||W0 + D||, D = alpha / rank * B A.

    Trained: lora_A, lora_B and m (one number an output, ||W0|| at the start). The norm counts as a
    constant in the backward pass, as in the paper.
    """

    method: ClassVar[str] = "dora"


@dataclass(frozen=True)
class PissaConfig(HfLoraConfig):
    """Options of `pissa` (arXiv 2404.02948): W = W0 + alpha / rank * (B A - B0 A0).

    B0 A0 is the part of W0 in its `rank` largest singular triplets, where B and A start. PEFT
    subtracts it from the base; here the base stays, and B0, A0 are stored beside the adapter.

    niter: null for an exact SVD, else that many subspace iterations of a fast one (16 in the
        paper), which draws random numbers.
    """

    method: ClassVar[str] = "pissa"
    structural: ClassVar[tuple[str, ...]] = ("rank", "alpha")

    alpha: float = 32.0
    niter: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.niter is not None:
            checks.integer(f"adapter_conf of {self.method}", "niter", self.niter, 1)


@dataclass(frozen=True)
class LoraFaConfig(HfLoraConfig):
    """Options of `lora_fa` (arXiv 2308.03303): a LoRA whose random lora_A is frozen.

    seed: of lora_A, which is therefore the same on every rank and in every run.
    """

    method: ClassVar[str] = "lora_fa"

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer(f"adapter_conf of {self.method}", "seed", self.seed, 0)


@dataclass(frozen=True)
class MicaConfig(HfLoraConfig):
    """Options of `mica` (arXiv 2604.01694): lora_B is frozen, lora_A starts at 0 and is trained.

    lora_B holds the left singular vectors of W0 of its `rank` smallest singular values.
    """

    method: ClassVar[str] = "mica"


@dataclass(frozen=True)
class AdaLoraConfig(HfLoraConfig):
    """Options of `adalora` (arXiv 2303.10512): W = W0 + alpha / rank * B diag(E) A.

    Trained: lora_A, lora_B, lora_E. The triplets that matter least are put to 0 on the way, over
    all layers together, until `target_rank` a layer are left on average.

    rank: triplets of each layer at the start (PEFT's init_r).
    target_rank: triplets of a layer at the end, on average (target_r).
    total_steps: steps of the optimiser in the whole training: batches / accum_grad * max_epoch.
    warmup_steps: steps before the first is put to 0 (tinit). By default a tenth of total_steps.
    final_steps: steps after the last is (tfinal). By default three tenths of total_steps.
    interval: steps between two choices (deltaT).
    beta1, beta2: decay of the running means of importance and of its uncertainty.
    orth_weight: weight of the penalty |A A^T - I| + |B^T B - I| in the loss.
    """

    method: ClassVar[str] = "adalora"

    rank: int = 48
    alpha: float = 32.0
    target_rank: int = 32
    total_steps: int | None = None
    warmup_steps: int | None = None
    final_steps: int | None = None
    interval: int = 10
    beta1: float = 0.85
    beta2: float = 0.85
    orth_weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"adapter_conf of {self.method}"
        checks.integer(where, "target_rank", self.target_rank, 1)
        if self.target_rank >= self.rank:
            raise ValueError(
                f"{where}: target_rank is {self.target_rank} and rank {self.rank}; allowed: a "
                "target_rank below rank, as the method only ever removes"
            )
        if self.total_steps is None:
            raise ValueError(
                f"{where}: total_steps is missing; the budget shrinks on a schedule over the whole "
                "training. Give the steps of the optimiser: batches an epoch / accum_grad * "
                "max_epoch (ESPnet's log has the batches)"
            )
        total = checks.integer(where, "total_steps", self.total_steps, 2)
        checks.integer(where, "interval", self.interval, 1)
        for key, share in (("warmup_steps", 0.1), ("final_steps", 0.3)):
            given = getattr(self, key)
            given = int(share * total) if given is None else checks.integer(where, key, given, 0)
            self._set(key, given)
        if self.warmup_steps + self.final_steps >= total:
            raise ValueError(
                f"{where}: warmup_steps {self.warmup_steps} + final_steps {self.final_steps} leave "
                f"nothing of total_steps {total}; allowed: a sum below it"
            )
        for key in ("beta1", "beta2"):
            beta = checks.number(
                where, key, getattr(self, key), 0.0, 1.0, open_low=True, open_high=True
            )
            self._set(key, beta)
        self._set("orth_weight", checks.number(where, "orth_weight", self.orth_weight, 0.0))


@dataclass(frozen=True)
class HfConfig(AdapterConfig):
    """What the methods without an alpha share.

    rank: see the method. dropout_rate: dropout on the update's input, in training.
    """

    structural: ClassVar[tuple[str, ...]] = ("rank",)
    scaling: ClassVar[float] = 1.0

    rank: int | None = None
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"adapter_conf of {self.method}"
        if self.rank is not None:
            checks.integer(where, "rank", self.rank, 1)
        rate = checks.number(where, "dropout_rate", self.dropout_rate, 0.0, 1.0, open_high=True)
        self._set("dropout_rate", rate)


@dataclass(frozen=True)
class VeraConfig(HfConfig):
    """Options of `vera` (arXiv 2310.11454): W = W0 + diag(b) B diag(d) A.

    Trained: b (one number an output, 0 at the start) and d (one a rank). A and B are random,
    frozen and shared by all layers, each of which uses the part that fits it.

    rank: rows of A. d_initial: where d starts. seed: of A and B.
    """

    method: ClassVar[str] = "vera"

    rank: int = 256
    d_initial: float = 0.1
    seed: int = 0
    shared: Shared | None = field(default=None, metadata=PER_LAYER, compare=False, repr=False)
    widest: tuple[int, int] | None = field(default=None, metadata=PER_LAYER)

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"adapter_conf of {self.method}"
        checks.integer(where, "rank", self.rank, 1)
        self._set("d_initial", checks.number(where, "d_initial", self.d_initial))
        checks.integer(where, "seed", self.seed, 0)


@dataclass(frozen=True)
class VbLoraConfig(HfConfig):
    """Options of `vblora` (arXiv 2405.15179): a LoRA whose factors are pieced together from a bank.

    Each piece of `vector_length` entries of A and B is a mixture of the `topk` vectors of a bank
    which its logits rate highest; bank and logits are trained. It starts near its base, not at it.

    rank: rows of A. num_vectors: vectors in the bank, shared by all layers.
    vector_length: divides every width of the targets; by default the largest number that does.
    init_bank_bound: the bank starts uniform in +- this. init_logits_std: of the logits' start.
    """

    method: ClassVar[str] = "vblora"
    structural: ClassVar[tuple[str, ...]] = ("rank", "num_vectors", "vector_length", "topk")

    rank: int = 4
    num_vectors: int = 256
    vector_length: int | None = None
    topk: int = 2
    init_bank_bound: float = 0.02
    init_logits_std: float = 0.1
    shared: Shared | None = field(default=None, metadata=PER_LAYER, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"adapter_conf of {self.method}"
        for key in ("rank", "num_vectors", "topk"):
            checks.integer(where, key, getattr(self, key), 1)
        if self.vector_length is not None:
            checks.integer(where, "vector_length", self.vector_length, 1)
        if self.topk > self.num_vectors:
            raise ValueError(
                f"{where}: topk is {self.topk}, but the bank has num_vectors {self.num_vectors}; "
                "allowed: a topk up to num_vectors"
            )
        for key in ("init_bank_bound", "init_logits_std"):
            self._set(key, checks.number(where, key, getattr(self, key), 0.0, open_low=True))


@dataclass(frozen=True)
class OsfConfig(HfConfig):
    """Options of `osf` (arXiv 2504.07097): all but the largest singular triplets of W0 are trained.

    Gradients are projected off the span of those that are kept. Not small: with half of the
    triplets of a square weight, as many numbers are trained as the weight has, and stored twice.

    rank: triplets that are trained, the smallest; by default half of the smaller width.
    """

    method: ClassVar[str] = "osf"


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
