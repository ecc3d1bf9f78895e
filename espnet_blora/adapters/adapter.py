"""The handle on an adapted model: ELBO, switches, counts, files."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espnet_blora.adapters.checks import integer, number
from espnet_blora.adapters.context import Draws, sample_seeds
from espnet_blora.adapters.elbo import ElboConfig, beta_at, kl_terms, load_prior
from espnet_blora.adapters.files import write_adapter_file
from espnet_blora.adapters.layer import bake_layers, merge_layers, prepare_layers, unmerge_layers
from espnet_blora.adapters.load_hooks import remove_hooks
from espnet_blora.adapters.registry import METHODS
from espnet_blora.adapters.report import SMALL, Report, collapsed, report, statistics, update_ratio
from espnet_blora.adapters.state import STATE_NAME, AdapterState

log = logging.getLogger(__name__)

WEAKER_KL = (
    "Take the options of blora's preset: any_size, which trained at every width and rank tried, or "
    "lower beta or raise prior_std; a warm-up of the KL (schedule: linear) alone may only delay it"
)


class Adapter:
    """A view of the adapter on `model`. It holds no state of its own: make as many as you like.

    Args:
        model: The adapted model. Of several adapters it is the one that computes.

    Attributes:
        method: The name of the method, a key of METHODS.
        config: The checked options.
        layers: The adapted Linears by module name, in model order.
        bayesian: Whether there is a posterior, and so a KL.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._state: AdapterState = getattr(model, STATE_NAME)
        self.method = self.state.method
        self.config = self.state.config
        self.layers = self.state.layers
        self._registered = METHODS[self.method]
        self.bayesian = self._registered.bayesian

    @property
    def state(self) -> AdapterState:
        """What the adapter keeps beside its layers.

        Raises:
            ValueError: The adapter is not the one that computes: it stands by, or is gone.
        """
        self._check_present()
        return self._state

    def _check_present(self) -> None:
        if getattr(self.model, STATE_NAME, None) is not self._state:
            raise ValueError(
                f"adapter '{self._state.name}' is not on the model now: set_adapter(model, "
                f"'{self._state.name}') puts it on where it stands by"
            )

    @property
    def step(self) -> int:
        """Micro-batches trained on; saved with the model, and what the noise depends on."""
        return self.state.context.step

    def advance(self) -> None:
        """Count one micro-batch, in a loop that never calls the adapted model itself."""
        self.state.name_uncalled()  # of the micro-batch before
        self.state.count_step()

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return the parameters to train, in model order.

        Raises:
            ValueError: As of `state`.
        """
        self._check_present()
        return [p for p in self.model.parameters() if p.requires_grad]

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return the trainable parameters as an optimiser's groups: decayed, and never decayed.

        The second group, the scales of a posterior, is left out where there are none.
        """
        kept: list[nn.Parameter] = []
        decayed: list[nn.Parameter] = []
        for parameter in self.trainable_parameters():
            (kept if getattr(parameter, "_no_weight_decay", False) else decayed).append(parameter)
        groups = [{"params": decayed, "weight_decay": weight_decay}]
        return groups + ([{"params": kept, "weight_decay": 0.0}] if kept else [])

    def factors(self) -> dict[str, Tensor]:
        """Return {layer.factor: tensor} of all factors, trained or frozen, as they are."""
        return {
            f"{name}.{factor}": tensor
            for name, layer in self.layers.items()
            for factor, tensor in layer.factors().items()
        }

    def report(self) -> Report:
        """Return the counts of trainable parameters; its str() is fit to print."""
        return report(self.model, self.method, self.layers, self.config.target_modules)

    def prepare(self) -> None:
        """Compute the bases that come from the base weights, unless they are there already.

        Every rank of torch.distributed calls it, with the model on its device and the base loaded:
        rank 0 computes, the other ranks take its values. The first training forward of the model
        does all of this by itself.

        Raises:
            ValueError: A weight holds NaN or inf; names the layer.
        """
        prepare_layers(self.layers)
        self.state.bases_agreed = True

    @torch.no_grad()
    def narrow_base(self, dtype: torch.dtype = torch.bfloat16) -> int:
        """Keep the frozen Linear weights of the model in `dtype`, for training under its autocast.

        Autocast's products then need no copies of them, and compute the same bits. All that comes
        from the base itself (bases, fingerprint, what a term of the loss reads) is taken before.
        Every rank calls it, before the first step. The model neither merges nor gives its base
        back: checkpoints leave the base out, and are opened on the base's own file.

        Returns:
            The number of weights.

        Raises:
            ValueError: The method reads the weights in each step (`dora`).
        """
        if any(layer.reads_weight for layer in self.layers.values()):
            raise ValueError(
                f"adapter '{self.method}' computes with the base weights in each step, not only "
                f"with what autocast makes of them: they cannot be held in {dtype}"
            )
        self.prepare()
        if self.has_loss_term:
            training = self.model.training
            self.model.eval()
            self.loss_terms()  # its first call reads the base
            self.model.train(training)
        self.state.base_rows = self.state.current_fingerprint(self.model)
        linears = [module for module in self.model.modules() if isinstance(module, nn.Linear)]
        frozen = [one.weight for one in linears if not one.weight.requires_grad]
        for weight in frozen:
            weight.data = weight.data.to(dtype)
        return len(frozen)

    # ---- what the training loop adds ----

    @property
    def has_loss_term(self) -> bool:
        """Whether `loss_terms` has something to add to the loss."""
        return self.bayesian or self._registered.loss_term is not None

    def loss_terms(self, at: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what to add to a per-token loss in training (0-dim) and detached values to log.

        The method's own term; else beta_t * KL, which makes the loss the negative ELBO per token.
        With the KL, kl_A, kl_B, beta and kl_term are always logged; at steps 1, 1 + log_every, ...
        also what `statistics` gives. Warns, once, of a collapsed adapter and of a step that stands
        still.

        Args:
            at: Place on beta's schedule, where the loop counts steps of the optimiser; by default
                the micro-batch.

        Raises:
            ValueError: The method has neither.
        """
        if not self.has_loss_term:
            raise ValueError(
                f"adapter '{self.method}' adds nothing to the loss: call loss_terms() only where "
                "adapter.has_loss_term says so"
            )
        own_term = self._registered.loss_term
        if own_term is not None:
            return own_term(self.model, self.layers, self.config, self.step)
        terms = self.kl_terms()
        beta = self.beta(at)
        term = beta * (terms["kl_A"] + terms["kl_B"])
        logs = {name: value.detach() for name, value in terms.items()}
        logs["beta"] = torch.tensor(beta, dtype=term.dtype, device=term.device)
        logs["kl_term"] = term.detach()
        if self.model.training:
            self._check_step_moves()
        if (self.step - 1) % self._elbo_config("KL").log_every == 0:
            logs.update(self.statistics())
        return term, logs

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Let every step of `optimizer` run the method's `after_step`, where it has one."""
        after_step = self._registered.after_step
        if after_step is None:
            return

        def run(*_: Any) -> None:
            self.state.context.updates += 1
            after_step(self.layers, self.config, self.state.context.updates)

        optimizer.register_step_post_hook(run)

    # ---- the ELBO ----

    def _elbo_config(self, quantity: str) -> ElboConfig:
        """Return the options of the ELBO; ValueError when there is no posterior, so no quantity."""
        if not isinstance(self.config, ElboConfig):
            raise ValueError(
                f"adapter '{self.method}' has no posterior and so no {quantity}; use blora"
            )
        return self.config

    def kl_terms(self, constants: bool = False) -> dict[str, Tensor]:
        """Return {"kl_A", "kl_B"} as `espnet_blora.adapters.elbo.kl_terms` does.

        Raises:
            FileNotFoundError: With `prior: moments`, at the first call, its file is not there.
            ValueError: The method has no posterior; the file does not fit.
        """
        config = self._elbo_config("KL")
        if config.prior == "moments":
            load_prior(self.model, self.layers, config)
        return kl_terms(list(self.layers.values()), config, constants)

    def kl(self) -> Tensor:
        """Return KL_A + KL_B: 0-dim, nats, reduced by kl_reduction, differentiable.

        Raises:
            ValueError: The method has no posterior.
        """
        terms = self.kl_terms()
        return terms["kl_A"] + terms["kl_B"]

    def beta(self, at: int | None = None) -> float:
        """Return the scheduled weight of the KL at the current step, or at step `at`.

        Raises:
            ValueError: The method has no posterior.
        """
        return beta_at(self._elbo_config("beta"), self.step if at is None else at)

    def statistics(self) -> dict[str, Tensor]:
        """Return `report.statistics` of all layers, and with a posterior `update_ratio`.

        Warns, once, of a collapsed posterior.
        """
        layers = list(self.layers.values())
        values = statistics(layers)
        if not self.bayesian:
            return values
        values["update_ratio"] = update_ratio(layers)
        if collapsed(layers, values, self.step) and self.state.warn_once("collapse"):
            log.warning(
                "adapter '%s' has collapsed: at step %d, %.1f %% of lora_B are below %g and the "
                "update is %.1e of the base weights, so the model is its base. %s",
                self.method,
                self.step,
                100 * float(values["small_share_B"]),
                SMALL,
                float(values["update_ratio"]),
                WEAKER_KL,
            )
        return values

    def check_balance(self, loss: Tensor, kl_term: Tensor) -> None:
        """Warn, once, when beta * KL is more than 10 times the loss per token that it is added to.

        Looks at the steps of `statistics` only: reading the values waits for a GPU.
        """
        if (self.step - 1) % self._elbo_config("KL").log_every or "kl" in self.state.warned:
            return
        if float(kl_term) > 10.0 * float(loss) and self.state.warn_once("kl"):
            log.warning(
                "the KL outweighs the task: beta * KL is %.4g, the loss per token %.4g at step %d, "
                "and an update that is pulled so hard may end at zero. %s",
                float(kl_term),
                float(loss),
                self.step,
                WEAKER_KL,
            )

    def _check_step_moves(self) -> None:
        if self.state.elbo_step == self.step and self.state.warn_once("step"):
            log.warning(
                "the adapter's step stands still at %d, so every forward draws the same noise: "
                "call the adapted model itself, once per micro-batch, or adapter.advance()",
                self.step,
            )
        self.state.elbo_step = self.step

    # ---- switches ----

    def sampling(
        self, seed: int | None = None, spread: float = 1.0
    ) -> AbstractContextManager["Adapter"]:
        """Use one draw from the posterior, in eval(), for as long as this context lasts.

        The draw is a constant: it follows no change of the parameters, and passes no gradient to
        them. The forward raises ValueError when the adapter is merged or the model in train().

        Args:
            seed: The same seed gives the same draw; without one it comes from torch's global
                generator.
            spread: Factor on every sigma; 1 is the posterior, 0 its mean.

        Raises:
            ValueError: The method has no posterior, or spread is not a number >= 0.
        """
        return self._drawing(lambda first: (first,), seed, spread)

    def sampling_batch(
        self, samples: int, seed: int | None = None, spread: float = 1.0
    ) -> AbstractContextManager["Adapter"]:
        """Use S draws at once, in eval(): every adapted layer takes S * M rows, sample-major.

        Rows s * M to (s + 1) * M - 1 of the leading axis see draw s, the one of
        `sampling(mix(seed, s))`: y = base(x) + scaling * (x A_s^T) B_s^T, the base forward once for
        all rows and one batched product for each factor. The first draws of more are the draws of
        fewer. What is kept for each layer: S * r * (d_in + d_out) numbers. The forward raises
        ValueError as in `sampling`, and when the rows cannot be cut into S equal parts.

        Args:
            samples: S.
            seed: As of `sampling`.
            spread: As of `sampling`.

        Raises:
            ValueError: As of `sampling`, or samples is below 1.
        """
        count = integer("sampling_batch", "samples", samples, low=1)
        return self._drawing(lambda first: sample_seeds(first, count), seed, spread)

    def _drawing(
        self, seeds: Callable[[int], tuple[int, ...]], seed: int | None, spread: float
    ) -> AbstractContextManager["Adapter"]:
        self._elbo_config("draws")
        first = int(torch.randint(2**62, ())) if seed is None else int(seed)
        draws = Draws(seeds(first), number("sampling", "spread", spread, low=0.0))
        return self._switched("draws", draws)

    @contextmanager
    def _switched(self, name: str, value: Any) -> Iterator["Adapter"]:
        """Set one field of the layers' shared context inside this context."""
        context = self.state.context
        before = getattr(context, name)
        setattr(context, name, value)
        try:
            yield self
        finally:
            setattr(context, name, before)

    @contextmanager
    def scaled(self, factor: float) -> Iterator["Adapter"]:
        """Scale the update by `factor` (0: the base, 1: as trained) inside this context."""
        before = self.state.context.factor
        self.set_scale(factor)
        try:
            yield self
        finally:
            self.set_scale(before)

    def set_scale(self, factor: float) -> None:
        """Scale the update by `factor` from now on (not saved). Re-merges a merged adapter."""
        value = number("adapter scale", "factor", factor)
        merged = self.merged
        self.unmerge()
        self.state.context.factor = value
        if merged:
            self.merge()

    @property
    def scale(self) -> float:
        """The factor put on the update, 1 unless set."""
        return self.state.context.factor

    def disabled(self) -> AbstractContextManager["Adapter"]:
        """Compute what the base computes inside this context."""
        return self._switched("disabled", True)

    @property
    def merged(self) -> bool:
        """Whether forward reads merged weights."""
        return any(layer.merged for layer in self.layers.values())

    def merge(self) -> None:
        """Let forward read W0 + delta; idempotent.

        The state dict stays that of the base and the factors: saving the merged model writes the
        base weights. `merge_and_unload` gives a model whose own weights are the sums.

        Raises:
            ValueError: A sum holds NaN or inf (names the layer), the method cannot be merged, or
                the base was narrowed.
        """
        if not self._registered.merges:
            raise ValueError(
                f"adapter '{self.method}' cannot be merged: its forward is not a single weight; "
                "run it factored"
            )
        if self.state.base_rows is not None:
            raise ValueError(
                "the base is held in half precision in this process, and a sum with it would be "
                "rounded: open the checkpoint anew to merge"
            )
        merge_layers(self.layers)

    def unmerge(self) -> None:
        """Undo merge(), exactly; idempotent."""
        unmerge_layers(self.layers)

    def merge_and_unload(self) -> nn.Module:
        """Return the model, in place, with plain Linears whose weights are W0 + delta.

        Nothing of the adapter is left in its state dict, so that it can be saved, exported or
        adapted afresh. All weights stay frozen. This handle cannot be used any more.

        Raises:
            ValueError: As of `merge`; the model is unchanged then.
        """
        self.merge()
        bake_layers(self.layers)
        remove_hooks(self.model)
        delattr(self.model, STATE_NAME)
        return self.model

    # ---- files ----

    def save(self, path: str | Path) -> None:
        """Write the adapter to one safetensors file: after a failure the old file is still there.

        Raises:
            ValueError: The model is on the meta device, or a factor holds NaN or inf.
            OSError: The file cannot be written.
        """
        rows = self.state.current_fingerprint(self.model)
        if rows is None or any(tensor.is_meta for tensor in self.factors().values()):
            raise ValueError(
                f"cannot save the adapter to {path}: the model is on the meta device and has no "
                "values; build it on a real device"
            )
        self.prepare()
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.factors().items()}
        for name, tensor in tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"cannot save the adapter to {path}: {name} holds NaN or inf")
        description = {
            "method": self.method,
            "config": self.config.as_dict(),
            "step": self.step,
            "layers": list(self.layers),
            "base": dict(zip(self.state.base_names, rows.tolist(), strict=True)),
        }
        if self.state.trained_on:
            description["training"] = self.state.trained_on
        write_adapter_file(path, tensors, description)
        trained = {name for name, p in self.model.named_parameters() if p.requires_grad}
        beside = sorted(trained - self.factors().keys())
        if beside:
            log.warning(
                "%s holds the adapter alone: %d parameters that are trained beside it (such as %s) "
                "are not in the file. Save the model's state dict for them",
                path,
                len(beside),
                beside[0],
            )


def get_adapter(model: nn.Module) -> Adapter | None:
    """Return the adapter on `model` (or on the model inside a DDP wrapper), None without one."""
    inner: Any = getattr(model, "module", None)
    for candidate in (model, inner):
        if isinstance(getattr(candidate, STATE_NAME, None), AdapterState):
            return Adapter(candidate)
    return None
