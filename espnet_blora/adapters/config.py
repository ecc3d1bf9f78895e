"""The options of each adapter method (`adapter_conf` in the yaml), with defaults and checks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from espnet_blora.adapters import checks

SAMPLINGS = ("weight", "flipout", "local")
REDUCTIONS = ("per_matrix_mean", "global_mean", "sum_over_tokens")
SCHEDULES = ("constant", "linear", "cyclic")

# sigma = softplus(rho) lies in [0.0041, 0.0110] at the start, mean 0.0070 (prior 0.01)
RHO_INIT = (-5.5, -4.5)
# sigma = 2e-22: the factor is a point, not a distribution
RHO_POINT = -50.0
# below this rho, d sigma / d rho = sigmoid(rho) < 5e-5 and no optimiser moves sigma
RHO_TRAINABLE = -10.0

# What BLoRA (arXiv 2510.18723) reports. Its alpha and dropout are not in the paper; 64 is what the
# authors' program uses. beta is the weight of the per-matrix-mean KL against a per-token loss.
_PAPER = {
    "target_modules": ["query", "key"],
    "rank": 32,
    "alpha": 64,
    "dropout_rate": 0.0,
    "sampling": "flipout",
    "prior_std": 0.01,
    "beta": 0.5,
    "kl_reduction": "per_matrix_mean",
    "schedule": "constant",
}
# What the authors' program can do: query and value, never key. Its command line starts from a KL
# weight of 1e-4; the paper's 0.5 is kept here.
_CODE = {**_PAPER, "target_modules": ["query", "value"], "dropout_rate": 0.05}
PRESETS: dict[str, dict[str, Any]] = {"paper": _PAPER, "code": _CODE}


# For a field that is no option of the user: Method.plan sets it, for single layers.
PER_LAYER = {"per_layer": True}


@dataclass(frozen=True)
class AdapterConfig:
    """What the options of all methods share. A subclass adds fields, and checks in __post_init__.

    Layers read `rank`, `scaling` and `dropout_rate` from it; `Method.plan` may give each layer its
    own copy (`dataclasses.replace`), in which fields made with `metadata=PER_LAYER` may differ too.

    target_modules: ends of module names, in whole dotted components.
    """

    method: ClassVar[str]
    # Options that a checkpoint must agree in: with another value it computes another function.
    structural: ClassVar[tuple[str, ...]] = ()
    rank: ClassVar[int] = 0
    dropout_rate: ClassVar[float] = 0.0

    target_modules: tuple[str, ...] = ("query", "value")

    @classmethod
    def parse(cls, conf: Mapping[str, Any]) -> "AdapterConfig":
        """Build the options from `adapter_conf`; ValueError for an unknown key or a bad value."""
        checks.reject_unknown(f"adapter_conf of {cls.method}", conf, cls.options())
        return cls(**conf)

    @classmethod
    def options(cls) -> tuple[str, ...]:
        """Return the names of all options."""
        return tuple(f.name for f in fields(cls) if "per_layer" not in f.metadata)

    def as_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON values."""
        values = {key: asdict(self)[key] for key in self.options()}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}

    def scaling_at(self, rank: int) -> float:
        """Return what the update of a layer of this rank is multiplied by."""
        return 1.0

    @property
    def scaling(self) -> float:
        """`scaling_at` the rank of this configuration."""
        return self.scaling_at(self.rank)

    def _set(self, key: str, value) -> None:
        object.__setattr__(self, key, value)

    def __post_init__(self) -> None:
        where = f"adapter_conf of {self.method}"
        targets = checks.names(where, "target_modules", self.target_modules)
        self._set("target_modules", targets)


@dataclass(frozen=True)
class LoraConfig(AdapterConfig):
    """Options of `lora`: W = W0 + (alpha / rank) * lora_B @ lora_A, with W0 frozen.

    rank: r, number of rows of lora_A and of columns of lora_B.
    alpha: the update is scaled by alpha / rank.
    dropout_rate: dropout on the adapter's input, in training.
    target_modules: ends of module names, in whole dotted components.
    """

    method: ClassVar[str] = "lora"
    structural: ClassVar[tuple[str, ...]] = ("rank", "alpha")

    rank: int = 32
    alpha: float = 64.0
    dropout_rate: float = 0.0

    def scaling_at(self, rank: int) -> float:
        """Return alpha / rank."""
        return self.alpha / rank

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"adapter_conf of {self.method}"
        checks.integer(where, "rank", self.rank, 1)
        self._set("alpha", checks.number(where, "alpha", self.alpha, 0.0, open_low=True))
        rate = checks.number(where, "dropout_rate", self.dropout_rate, 0.0, 1.0, open_high=True)
        self._set("dropout_rate", rate)


@dataclass(frozen=True)
class BloraConfig(LoraConfig):
    """Options of `blora`: Gaussian posteriors over both factors (BLoRA, arXiv 2510.18723).

    preset: `paper` or `code`; keys given beside it override it.
    bayesian_factors: `AB`, or `A` (lora_B is then an ordinary weight without a KL, as in BLoB).
    sampling: `weight` (one draw per forward: the cheapest), `flipout` (one draw, signs per
        position: what the authors' program and so both presets use), `local` (local
        reparameterisation: noise on the outputs).
    prior_std: sigma_p of the prior N(0, sigma_p^2); prior_std_A / prior_std_B override it.
    beta: weight of the KL; it depends on kl_reduction and so on rank and widths.
    kl_reduction: `per_matrix_mean` (mean over each factor matrix, summed over matrices: the
        paper's), `global_mean` (mean over all elements), `sum_over_tokens` (sum / num_tokens:
        with beta 1 a true ELBO per token).
    num_tokens: number of target tokens in the training set, for sum_over_tokens.
    kl_dtype: `float64` or `float32`.
    schedule: `constant`; `linear` (0 to beta over warmup_steps); `cyclic` (every cycle_steps, 0 to
        beta over the first cycle_ramp of the cycle). Steps are micro-batches.
    rho_init_A, rho_init_B: sigma = softplus(rho); a number, or [low, high] for a uniform start.
    train_sigma_B: false keeps sigma of lora_B where rho_init_B puts it (a buffer).
    seed: of the noise.
    log_every: steps between two sets of statistics.
    """

    method: ClassVar[str] = "blora"
    structural: ClassVar[tuple[str, ...]] = (*LoraConfig.structural, "bayesian_factors")

    preset: str | None = None
    bayesian_factors: str = "AB"
    sampling: str = "weight"
    prior_std: float = 0.01
    prior_std_A: float | None = None
    prior_std_B: float | None = None
    beta: float = 0.5
    kl_reduction: str = "per_matrix_mean"
    num_tokens: int | None = None
    kl_dtype: str = "float64"
    schedule: str = "constant"
    warmup_steps: int | None = None
    cycle_steps: int | None = None
    cycle_ramp: float = 0.5
    rho_init_A: float | tuple[float, float] = RHO_INIT
    rho_init_B: float | tuple[float, float] | None = None
    train_sigma_B: bool = False
    seed: int = 0
    log_every: int = 100

    @classmethod
    def parse(cls, conf: Mapping[str, Any]) -> "BloraConfig":
        """Build the options; keys given beside `preset` override it."""
        checks.reject_unknown(f"adapter_conf of {cls.method}", conf, cls.options())
        preset = conf.get("preset")
        if preset is not None:
            checks.one_of(f"adapter_conf of {cls.method}", "preset", preset, PRESETS)
        return cls(**{**PRESETS.get(preset, {}), **conf})

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"adapter_conf of {self.method}"
        if self.preset is not None:
            checks.one_of(where, "preset", self.preset, PRESETS)
        checks.one_of(where, "bayesian_factors", self.bayesian_factors, ("A", "AB"))
        checks.one_of(where, "sampling", self.sampling, SAMPLINGS)
        checks.one_of(where, "kl_reduction", self.kl_reduction, REDUCTIONS)
        checks.one_of(where, "kl_dtype", self.kl_dtype, ("float32", "float64"))
        checks.one_of(where, "schedule", self.schedule, SCHEDULES)
        std = checks.number(where, "prior_std", self.prior_std, 0.0, open_low=True)
        self._set("prior_std", std)
        for key in ("prior_std_A", "prior_std_B"):
            value = getattr(self, key)
            given = std if value is None else checks.number(where, key, value, 0.0, open_low=True)
            self._set(key, given)
        self._set("beta", checks.number(where, "beta", self.beta, 0.0))
        checks.integer(where, "seed", self.seed, 0)
        checks.integer(where, "log_every", self.log_every, 1)
        ramp = checks.number(where, "cycle_ramp", self.cycle_ramp, 0.0, 1.0, open_low=True)
        self._set("cycle_ramp", ramp)
        self._needs(where, "kl_reduction", "sum_over_tokens", "num_tokens")
        self._needs(where, "schedule", "linear", "warmup_steps")
        self._needs(where, "schedule", "cyclic", "cycle_steps")
        self._check_rho(where)

    def _needs(self, where: str, key: str, choice: str, length: str) -> None:
        """`length` must be given with `key: choice`, and only then."""
        value = getattr(self, length)
        if getattr(self, key) == choice:
            if value is None:
                raise ValueError(f"{where}: {key}: {choice} needs {length} (a whole number >= 1)")
            checks.integer(where, length, value, 1)
        elif value is not None:
            raise ValueError(
                f"{where}: {length} is {value!r}, but {key} is {getattr(self, key)!r}; "
                f"{length} is used with {key}: {choice} only: remove it"
            )

    def _check_rho(self, where: str) -> None:
        checks.flag(where, "train_sigma_B", self.train_sigma_B)
        if self.bayesian_factors == "A" and (self.train_sigma_B or self.rho_init_B is not None):
            raise ValueError(
                f"{where}: train_sigma_B and rho_init_B need bayesian_factors: AB; "
                "with A, lora_B has no sigma: remove them"
            )
        self._set("rho_init_A", trained_rho(where, "rho_init_A", self.rho_init_A))
        rho_b = self.rho_init_B
        if rho_b is None:
            rho_b = RHO_INIT if self.train_sigma_B else RHO_POINT
        if self.train_sigma_B:
            rho_b = trained_rho(where, "rho_init_B", rho_b, ", or train_sigma_B: false")
        rho_b = _rho(where, "rho_init_B", rho_b)
        self._set("rho_init_B", None if self.bayesian_factors == "A" else rho_b)

    @property
    def noisy_B(self) -> bool:
        """Whether lora_B is drawn: its sigma is trained, or not negligible (>= 1e-12)."""
        if self.rho_init_B is None:
            return False
        high = self.rho_init_B if isinstance(self.rho_init_B, float) else self.rho_init_B[1]
        return self.train_sigma_B or high > -27.6


def trained_rho(where: str, key: str, value, otherwise: str = "") -> float | tuple[float, float]:
    """Return the start of a trained rho, checked: where sigma stands still it is refused."""
    rho = _rho(where, key, value)
    if (rho if isinstance(rho, float) else rho[0]) < RHO_TRAINABLE:
        raise ValueError(
            f"{where}: {key} is {rho!r} and trained, but there d sigma / d rho vanishes; "
            f"allowed: >= {RHO_TRAINABLE:g}{otherwise}"
        )
    return rho


def _rho(where: str, key: str, value) -> float | tuple[float, float]:
    """Return a rho start: a number in [-80, 20] or a (low, high) pair of them."""
    if isinstance(value, (list, tuple)):
        if len(value) != 2:
            raise ValueError(f"{where}: {key} is {value!r}; allowed: a number or [low, high]")
        low, high = (checks.number(where, key, v, -80.0, 20.0) for v in value)
        if low > high:
            raise ValueError(f"{where}: {key} is {value!r}; allowed: [low, high] with low <= high")
        return (low, high)
    return checks.number(where, key, value, -80.0, 20.0)
