"""Adapters in Hugging Face's `Trainer` and `Seq2SeqTrainer`.

Three lines of a training script are new::

    adapter = espnet_blora.add_adapter(model, "blora", preset="any_size",
                                       target_modules=["q_proj", "v_proj"])
    callback = espnet_blora.hf.AdapterCallback(model)
    trainer = Seq2SeqTrainer(model, arguments, ..., callbacks=[callback])

The trainer then descends the loss per token plus beta * KL, its checkpoints hold the adapter alone
and resume exactly, and `adapter.safetensors` is left beside each of them and in `output_dir`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espnet_blora.adapters import get_adapter
from espnet_blora.adapters.load_hooks import adapter_tensors

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise ImportError(
        "espnet_blora.hf needs transformers; install it: pip install 'espnet_blora[peft]'"
    ) from error

log = logging.getLogger(__name__)

FILE = "adapter.safetensors"


class Frozen(Set):
    """Keys of a model's state dict that training leaves as they were; none without an adapter.

    They are looked up at each use, so that a model whose adapter has been merged is saved whole.

    Args:
        model: Of transformers.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def _keys(self) -> set[str]:
        if get_adapter(self.model) is None:
            return set()
        trained = {name for name, p in self.model.named_parameters() if p.requires_grad}
        # not state_dict(): its hook would fingerprint the base for each look
        names = {name for name, _ in self.model.named_parameters(remove_duplicate=False)}
        names |= {name for name, _ in self.model.named_buffers(remove_duplicate=False)}
        return names - trained - adapter_tensors(self.model).keys()

    def __contains__(self, key: object) -> bool:
        return key in self._keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys())

    def __len__(self) -> int:
        return len(self._keys())


class AdapterCallback(TrainerCallback):
    """What an adapter needs of transformers' trainer: its term of the loss, its files, its steps.

    Made before the trainer. The mean of each micro-batch's loss per token and term is descended
    (a Whisper of transformers 5 would add up the micro-batches of `gradient_accumulation_steps`).
    Schedules of the KL count steps of the optimiser, noise counts micro-batches. `save_pretrained`
    of the model writes the adapter alone from then on; after `merge_and_unload` the whole model.

    Args:
        model: The adapted model, which gets labels and returns a loss.

    Raises:
        ValueError: It carries no adapter.
    """

    def __init__(self, model: Any) -> None:
        adapter = get_adapter(model)
        if adapter is None:
            raise ValueError(
                "this model carries no adapter; call espnet_blora.add_adapter(model, ...) first"
            )
        self.adapter = adapter
        self.values: dict[str, Tensor] = {}
        self._state: Any = None
        self._hook: Any = None
        self._followed: Any = None
        model.accepts_loss_kwargs = False
        model._keys_to_ignore_on_save = Frozen(model)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check the arguments; follow the optimiser, and add to the loss from now on.

        Raises:
            ValueError: An argument would train something else.
        """
        self._check(args)
        optimizer = kwargs["optimizer"]
        optimizer = getattr(optimizer, "optimizer", optimizer)  # inside accelerate's
        self._check_decay(optimizer)
        if optimizer is not self._followed:
            self.adapter.follow(optimizer)
            self._followed = optimizer
        self._state = state
        self.on_train_end(args, None, control)  # a training that was broken off has left its hook
        if self.adapter.has_loss_term:
            self._hook = self.adapter.model.register_forward_hook(self._add_term)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the loss alone, and the adapter's file in `output_dir`."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        if state is not None:
            self._save(args, state, Path(args.output_dir))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the adapter's file in the checkpoint, too: `espnet_blora.load_adapter` reads it."""
        self._save(args, state, Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the last values of the term beside the loss."""
        logs = kwargs["logs"]
        if "loss" in logs:
            values = {name: float(value) for name, value in self.values.items()}
            logs.update(values)
            state.log_history[-1].update(values)

    def _add_term(self, model: nn.Module, args: tuple, output: Any) -> Any:
        """Forward hook: loss + term, once per micro-batch, in training only."""
        if not (model.training and torch.is_grad_enabled()):
            return None
        if not isinstance(output, dict) or output.get("loss") is None:
            raise ValueError(
                "the model returned no loss to add the adapter's term to: give it labels, and "
                "leave return_dict as it is"
            )
        term, self.values = self.adapter.loss_terms(self._state.global_step + 1)
        if self.adapter.bayesian:
            self.adapter.check_balance(output["loss"].detach(), term.detach())
        output["loss"] = output["loss"] + term.to(output["loss"].dtype)
        return output

    def _save(self, args: Any, state: Any, folder: Path) -> None:
        if state.is_world_process_zero:
            folder.mkdir(parents=True, exist_ok=True)
            self.adapter.save(folder / FILE)

    def _check(self, args: Any) -> None:
        """Check the trainer's arguments."""
        odd = {
            "label_smoothing_factor": "takes the loss out of the model: leave it 0",
            "deepspeed": "writes checkpoints without the adapter's checks: use torch's DDP",
            "fsdp": "writes checkpoints without the adapter's checks: use torch's DDP",
        }
        for name, reason in odd.items():
            if getattr(args, name, None):
                raise ValueError(f"{name}: {getattr(args, name)!r} {reason}")
        if args.n_gpu > 1:
            raise ValueError(
                f"{args.n_gpu} GPUs in one process (DataParallel) would share one noise and one "
                "step: start with torchrun, or set CUDA_VISIBLE_DEVICES to one of them"
            )

    def _check_decay(self, optimizer: torch.optim.Optimizer) -> None:
        """Check that no parameter decays that asks not to (the scales of a posterior)."""
        kept = {id(p) for group in self.adapter.param_groups(0.0)[1:] for p in group["params"]}
        decayed = sum(
            id(p) in kept
            for group in optimizer.param_groups
            if group.get("weight_decay")
            for p in group["params"]
        )
        if decayed:
            raise ValueError(
                f"weight_decay would pull the scales of the posterior in {decayed} matrices to "
                "softplus(0) = 0.69: set it to 0, or give the trainer "
                "optimizers=(torch.optim.AdamW(adapter.param_groups(weight_decay), lr=...), None)"
            )
