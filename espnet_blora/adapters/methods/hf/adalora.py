"""AdaLoRA (arXiv 2303.10512) through PEFT: its layer, its rank allocator, its penalty.

PEFT wants a call after each step of the optimiser, while gradients are there, and adds the penalty
in the forward of a model of its own; here both are hooks of the method. What the allocator has to
remember lies in buffers, so that a resumed run chooses as the uninterrupted one would have.
"""

import logging
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from espnet_blora.adapters.context import Context
from espnet_blora.adapters.layer import full_precision
from espnet_blora.adapters.methods.hf.config import AdaLoraConfig
from espnet_blora.adapters.methods.hf.layer import ADAPTER, HfLayer, peft_package

log = logging.getLogger(__name__)

# What PEFT's allocator remembers, by our name and by its own.
MEMORY = {"importance": "exp_avg_ipt", "uncertainty": "exp_avg_unc"}


def peft_config(config: AdaLoraConfig) -> Any:
    """Return PEFT's config, in its names."""
    return peft_package().AdaLoraConfig(
        init_r=config.rank,
        target_r=config.target_rank,
        lora_alpha=config.alpha,
        total_step=config.total_steps,
        tinit=config.warmup_steps,
        tfinal=config.final_steps,
        deltaT=config.interval,
        beta1=config.beta1,
        beta2=config.beta2,
        orth_reg_weight=config.orth_weight,
        target_modules=["linear"],
    )


class AdaLoraLayer(HfLayer):
    """y = base(x) + alpha / r * B diag(E) A x; a pruned triplet has a 0 in E.

    The running means `<factor>_importance` and `<factor>_uncertainty` serve training alone: they
    are in checkpoints, but not in adapter files.

    Attributes:
        lora_A: (r, d_in), N(0, 0.02^2).
        lora_B: (d_out, r), N(0, 0.02^2).
        lora_E: (r, 1), zeros.
        ranknum: (1,), r.
        lora_kept: (r, 1) uint8, the triplets not pruned.
    """

    trained: ClassVar = {name: f"{name}.default" for name in ("lora_A", "lora_B", "lora_E")}
    frozen: ClassVar = {"ranknum": "ranknum.default"}
    own_names = ("lora_kept",)
    right_names = ("lora_A",)

    config: AdaLoraConfig
    lora_A: Tensor
    lora_B: Tensor
    lora_E: Tensor
    lora_kept: Tensor

    def peft_config(self, from_weight: bool) -> Any:
        """Return PEFT's config for AdaLoRA."""
        return peft_config(self.config)

    def start(self, config: AdaLoraConfig, context: Context, index: int) -> None:
        """Add the factors and what the allocator remembers of them."""
        super().start(config, context, index)
        kept = torch.ones(self.lora_E.shape, dtype=torch.uint8, device=self.weight.device)
        self.register_buffer("lora_kept", kept)
        for name in self.trained:
            for kind in MEMORY:
                self.register_buffer(f"{name}_{kind}", torch.zeros_like(getattr(self, name)))

    def factors(self) -> dict[str, Tensor]:
        """Return what the update needs."""
        memory = {f"{name}_{kind}" for name in self.trained for kind in MEMORY}
        return {name: t for name, t in super().factors().items() if name not in memory}


@torch.no_grad()
def allocate(layers: Mapping[str, AdaLoraLayer], config: AdaLoraConfig, step: int) -> None:
    """Update importances and put the least important triplets to 0: `Method.after_step`.

    Until total_steps - final_steps the budget shrinks; from then on a pruned triplet stays so. A
    factor that got no gradient counts as unimportant.

    Args:
        layers: All layers, by name.
        config: The adapter's options.
        step: Steps of the optimiser so far.
    """
    # The budget is final: only keep what is pruned at 0.
    last = config.last_choice
    if step > last:
        for layer in layers.values():
            layer.lora_E.masked_fill_(layer.lora_kept == 0, 0.0)
        return

    # A new allocator of PEFT's, with the memory of the last one. All that it asks of a model is its
    # parameters, under PEFT's names.
    owners = [
        (f"{prefix}.{path}", layer, name)
        for prefix, layer in layers.items()
        for name, path in layer.trained.items()
    ]
    parameters = {path: getattr(layer, name) for path, layer, name in owners}
    model = SimpleNamespace(named_parameters=parameters.items)
    allocator = peft_package().tuners.adalora.RankAllocator(model, peft_config(config), ADAPTER)
    for path, layer, name in owners:
        parameter = parameters[path]
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        allocator.ipt[path] = parameter
        for kind, attribute in MEMORY.items():
            getattr(allocator, attribute)[path] = getattr(layer, f"{name}_{kind}")

    # It prunes; its memory and its choice go back into the layers.
    budget, pattern = allocator.update_and_allocate(model, step, force_mask=step == last)
    for path, layer, name in owners:
        for kind, attribute in MEMORY.items():
            getattr(layer, f"{name}_{kind}").copy_(getattr(allocator, attribute)[path])
    for path, kept in (pattern or {}).items():
        layer = layers[path.removesuffix(f".{AdaLoraLayer.trained['lora_E']}")]
        layer.lora_kept.copy_(torch.tensor(kept, dtype=torch.uint8).unsqueeze(1))
    if step == last:
        log.info("adalora: step %d, the budget is final: %d triplets", step, budget)


def penalty(
    model: nn.Module, layers: Mapping[str, AdaLoraLayer], config: AdaLoraConfig, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return orth_weight * mean over factors of |A A^T - I|_F, |B^T B - I|_F: `Method.loss_term`.

    Logged: orthogonality, that mean; kept_rank, triplets not pruned, on average per layer.
    """
    gaps, kept = [], []
    for layer in layers.values():
        with full_precision(layer.weight):
            for gram in (layer.lora_A @ layer.lora_A.T, layer.lora_B.T @ layer.lora_B):  # (r, r)
                identity = torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
                gaps.append(torch.linalg.norm(gram - identity))
        kept.append(layer.lora_kept.sum())
    mean = torch.stack(gaps).mean()
    logs = {"orthogonality": mean.detach(), "kept_rank": torch.stack(kept).float().mean()}
    return config.orth_weight * mean, logs
