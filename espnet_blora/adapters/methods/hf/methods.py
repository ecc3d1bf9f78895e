"""The layers of the methods from Hugging Face PEFT: PEFT's config, trained and frozen tensors.

Where a method writes to the base weight (PiSSA) or computes from it (DoRA, MiCA, OSF), PEFT is
given a copy, once, when the base is loaded (`AdapterLayer.prepare`).
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from espnet_blora.adapters.context import mix
from espnet_blora.adapters.layer import wide
from espnet_blora.adapters.methods.hf.config import (
    HfLoraConfig,
    OsfConfig,
    PissaConfig,
    VbLoraConfig,
    VeraConfig,
)
from espnet_blora.adapters.methods.hf.layer import (
    ADAPTER,
    HfLayer,
    no_base,
    own_random_numbers,
    peft_layer,
    peft_package,
    read,
)

_A, _B = "lora_A.default.weight", "lora_B.default.weight"


def lora_config(config: HfLoraConfig, **more: Any) -> Any:
    """Return PEFT's LoraConfig; dropout is put on by `AdapterLayer`."""
    return peft_package().LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=["linear"], **more
    )


class DoraLayer(HfLayer):
    """y = base(x) + (m / n - 1) W0 x + m / n * alpha / r * B A x, n = ||W0 + alpha / r * B A||.

    Norms are those of the weight's rows, one per output.

    Attributes:
        lora_A: (r, d_in), as in LoRA.
        lora_B: (d_out, r), as in LoRA.
        lora_magnitude: m, (d_out,), ||W0|| at first.
    """

    trained: ClassVar = {
        "lora_A": _A,
        "lora_B": _B,
        "lora_magnitude": "lora_magnitude_vector.default.weight",
    }
    from_weight = ("lora_magnitude",)
    reads_weight = True

    def peft_config(self, from_weight: bool) -> Any:
        """Return PEFT's config for DoRA."""
        return lora_config(self.config, use_dora=True)

    def initial(self, device: str) -> dict[str, Tensor]:
        """Return LoRA's factors, and the shape of m: the norms of a weight that is not there."""
        base = no_base(self.in_features, self.out_features, device)
        factors = {name: path for name, path in self.trained.items() if name != "lora_magnitude"}
        values = read(peft_layer(lora_config(self.config), base), factors)
        return {**values, "lora_magnitude": torch.empty(self.out_features, device="meta")}

    def _for_peft(self, weight: Tensor) -> Tensor:
        return wide(weight)

    def update(self, x: Tensor) -> Tensor:
        """Return what PEFT adds to the base's output, with dropout on x in training."""
        form = self.form()
        return form.lora_magnitude_vector[ADAPTER](
            self._input(x),
            lora_A=form.lora_A[ADAPTER],
            lora_B=form.lora_B[ADAPTER],
            scaling=form.scaling[ADAPTER],
            base_layer=form.base_layer,
            adapter_name=None,  # or PEFT may keep the norm of other factors
        )

    def delta_weight(self) -> Tensor:
        """Return factor * (m / n * (W0 + alpha / r * B A) - W0), (d_out, d_in), fp32 or better."""
        form = self.form(in_wide=True)
        low_rank = form.get_delta_weight(ADAPTER)
        magnitude = form.lora_magnitude_vector[ADAPTER]
        weight = self.weight.to(low_rank.dtype)
        norm = magnitude.get_weight_norm(weight, low_rank, scaling=1)
        ratio = (magnitude.weight / norm.detach()).unsqueeze(1)
        return self.context.factor * ((ratio - 1) * weight + ratio * low_rank)


class PissaLayer(HfLayer):
    """y = base(x) + alpha / r * (B A - B0 A0) x; A, B start at A0, B0, the largest triplets of W0.

    Attributes:
        lora_A: (r, d_in).
        lora_B: (d_out, r).
        lora_start_A: The frozen start of lora_A.
        lora_start_B: The frozen start of lora_B.
    """

    trained: ClassVar = {"lora_A": _A, "lora_B": _B}
    from_weight = ("lora_A", "lora_B")
    start_names: ClassVar = {"lora_start_A": "lora_A", "lora_start_B": "lora_B"}
    right_names = ("lora_A", "lora_start_A")

    config: PissaConfig
    lora_start_A: Tensor
    lora_start_B: Tensor

    def peft_config(self, from_weight: bool) -> Any:
        """Return PEFT's config for PiSSA; for the form alone, LoRA's."""
        niter = self.config.niter
        init = "pissa" if niter is None else f"pissa_niter_{niter}"
        return lora_config(self.config, init_lora_weights=init if from_weight else True)

    def update(self, x: Tensor) -> Tensor:
        """Return PEFT's update less that of the start, exactly 0 at the start."""
        x, form = self._input(x), self.form()
        start = F.linear(F.linear(x, self.lora_start_A), self.lora_start_B)
        return form(x) - start * form.scaling[ADAPTER]

    def delta_weight(self) -> Tensor:
        """Return factor * alpha / r * (B A - B0 A0), (d_out, d_in), fp32 or better."""
        form = self.form(in_wide=True)
        now = form.get_delta_weight(ADAPTER)
        start = self.lora_start_B.to(now.dtype) @ self.lora_start_A.to(now.dtype)
        return self.context.factor * (now - start * form.scaling[ADAPTER])


class LoraFaLayer(HfLayer):
    """A LoRA with a frozen random lora_A: y = base(x) + alpha / r * B A x, B trained."""

    trained: ClassVar = {"lora_B": _B}
    frozen: ClassVar = {"lora_A": _A}
    right_names = ("lora_A",)

    def peft_config(self, from_weight: bool) -> Any:
        """Return PEFT's config for LoRA."""
        return lora_config(self.config)

    def initial(self, device: str) -> dict[str, Tensor]:
        """Return PEFT's initial values, drawn from the seed of the options."""
        seed = mix(self.config.seed, self.index)
        with own_random_numbers(torch.device("cpu"), seed):
            return super().initial(device)


class MicaLayer(HfLayer):
    """A LoRA with lora_B frozen: left singular vectors of the smallest singular values of W0."""

    trained: ClassVar = {"lora_A": _A}
    frozen: ClassVar = {"lora_B": _B}
    from_weight = ("lora_A", "lora_B")
    right_names = ("lora_A",)

    def peft_config(self, from_weight: bool) -> Any:
        """Return PEFT's config for MiCA; for the form alone, LoRA's."""
        return lora_config(self.config, init_lora_weights="mica" if from_weight else True)


class VeraLayer(HfLayer):
    """y = base(x) + diag(b) B diag(d) A x; A and B belong to all layers.

    Attributes:
        vera_lambda_b: b, (d_out,), zeros.
        vera_lambda_d: d, (r,).
        vera_A: (r, widest d_in), frozen, in the state dict of the first layer.
        vera_B: (widest d_out, r), likewise.
    """

    trained: ClassVar = {
        "vera_lambda_b": "vera_lambda_b.default",
        "vera_lambda_d": "vera_lambda_d.default",
    }
    frozen: ClassVar = {"vera_A": "vera_A.default", "vera_B": "vera_B.default"}
    shared_names = frozenset(frozen)

    config: VeraConfig

    def peft_config(self, from_weight: bool) -> Any:
        """Return PEFT's config for VeRA."""
        return peft_package().VeraConfig(
            r=self.config.rank,
            d_initial=self.config.d_initial,
            projection_prng_key=self.config.seed,
            target_modules=["linear"],
        )

    def initial(self, device: str) -> dict[str, Tensor]:
        """Return PEFT's initial values; A and B as large as the widest layers need them."""
        values = super().initial(device)
        if self.is_owner and self.config.widest is not None:
            widest = peft_layer(self.peft_config(False), no_base(*self.config.widest, device))
            values.update(read(widest, self.frozen))
        return values


class VbLoraLayer(HfLayer):
    """A LoRA whose A and B are made of vectors of a bank: see `VbLoraConfig`.

    Attributes:
        vblora_logits_A: (r, d_in / v, h), with v the vector length and h the vectors in the bank.
        vblora_logits_B: (d_out / v, r, h).
        vblora_vector_bank: (h, v), in the first layer's state dict.
    """

    trained: ClassVar = {
        n: f"{n}.default" for n in ("vblora_logits_A", "vblora_logits_B", "vblora_vector_bank")
    }
    shared_names = frozenset({"vblora_vector_bank"})

    config: VbLoraConfig

    def peft_config(self, from_weight: bool) -> Any:
        """Return PEFT's config for VB-LoRA."""
        config = self.config
        return peft_package().VBLoRAConfig(
            r=config.rank,
            num_vectors=config.num_vectors,
            vector_length=config.vector_length,
            topk=config.topk,
            init_vector_bank_bound=config.init_bank_bound,
            init_logits_std=config.init_logits_std,
            target_modules=["linear"],
        )


class OsfLayer(HfLayer):
    """y = base(x) + (U S V - U0 S0 V0) x: all but the largest singular triplets of W0 are trained.

    Gradients of U and V are projected off the kept triplets. (An optimiser that scales entries one
    by one, as Adam does, leaves that space a little again; so it is in PEFT.)

    Attributes:
        osf_U: (d_out, r), started at its frozen copy osf_start_U.
        osf_S: (r,), likewise.
        osf_V: (r, d_in), likewise.
        osf_high_U: (d_out, kept), the kept left vectors, where W0 is higher than wide.
        osf_high_V: (kept, d_in), the kept right vectors, where W0 is wider than high.
    """

    trained: ClassVar = {
        "osf_U": "osf_svd_params.default.U_low",
        "osf_S": "osf_svd_params.default.S_low",
        "osf_V": "osf_svd_params.default.V_low",
    }
    frozen: ClassVar = {
        "osf_start_U": "_osf_U_low_init.default",
        "osf_start_S": "_osf_S_low_init.default",
        "osf_start_V": "_osf_V_low_init.default",
        "osf_high_U": "_osf_U_high.default",
        "osf_high_V": "_osf_V_high.default",
    }
    from_weight = (*trained, *frozen)
    right_names = ("osf_V", "osf_start_V")

    config: OsfConfig
    osf_S: Tensor
    osf_start_U: Tensor
    osf_start_S: Tensor
    osf_start_V: Tensor

    @property
    def names(self) -> dict[str, str]:
        """{our name: PEFT's name} of what a weight of this shape has."""
        square = {
            "osf_high_U": self.out_features <= self.in_features,
            "osf_high_V": self.out_features >= self.in_features,
        }
        return {name: path for name, path in super().names.items() if not square.get(name, False)}

    def peft_config(self, from_weight: bool) -> Any:
        """Return PEFT's config for OSF, which counts the triplets that are kept."""
        kept = min(self.in_features, self.out_features) - self.rank
        return peft_package().OSFConfig(effective_rank=kept, target_modules=["linear"])

    def initial(self, device: str) -> dict[str, Tensor]:
        """Return shapes; PEFT has no form for this method without factorising the weight."""
        size, rank = min(self.in_features, self.out_features), self.rank
        factors = {"U": (self.out_features, rank), "S": (rank,), "V": (rank, self.in_features)}
        shapes = {f"osf_{part}{name}": s for part in ("", "start_") for name, s in factors.items()}
        shapes["osf_high_U"] = (self.out_features, size - rank)
        shapes["osf_high_V"] = (size - rank, self.in_features)
        return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}

    def update(self, x: Tensor) -> Tensor:
        """Return (U S V - U0 S0 V0) x, exactly 0 at the start."""
        x = self._input(x)
        left, right = self._projected("U"), self._projected("V")
        now = F.linear(F.linear(x, right) * self.osf_S, left)  # (..., d_out)
        start = F.linear(F.linear(x, self.osf_start_V) * self.osf_start_S, self.osf_start_U)
        return now - start

    def delta_weight(self) -> Tensor:
        """Return factor * (U S V - U0 S0 V0), (d_out, d_in), fp32 or better."""
        left, middle, right = (wide(getattr(self, f"osf_{name}")) for name in "USV")
        now = (left * middle) @ right
        left, middle, right = (wide(getattr(self, f"osf_start_{name}")) for name in "USV")
        return self.context.factor * (now - (left * middle) @ right)

    def _projected(self, side: str) -> Tensor:
        """Return U or V, with a gradient that loses its part in the span of the kept triplets."""
        factor = getattr(self, f"osf_{side}")
        if not (torch.is_grad_enabled() and factor.requires_grad):
            return factor
        # On a square side, what is kept is what its start does not span.
        high = f"osf_high_{side}"
        low = high not in self.names
        basis: Tensor = getattr(self, f"osf_start_{side}" if low else high)
        columns = basis if side == "U" else basis.T

        def project(gradient: Tensor) -> Tensor:
            along = gradient if side == "U" else gradient.T
            part = columns @ (columns.T @ along)
            result = part if low else along - part
            return result if side == "U" else result.T

        view = factor.view_as(factor)
        view.register_hook(project)
        return view
