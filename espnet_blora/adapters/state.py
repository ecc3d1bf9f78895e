"""The adapter's own state on the model: step, options and base fingerprint, as buffers.

It is the submodule `adapter_state` of the adapted model, so whatever saves the model's state dict
saves all that a reload needs and all that a load is checked against. State dicts of one run are
averaged without mixing posterior scales or counters.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from espnet_blora.adapters import fingerprint as fp
from espnet_blora.adapters.config import AdapterConfig
from espnet_blora.adapters.context import Context
from espnet_blora.adapters.layer import AdapterLayer
from espnet_blora.adapters.registry import METHODS

log = logging.getLogger(__name__)

STATE_NAME = "adapter_state"


class AdapterState(nn.Module):
    """What one adapter keeps beside its layers.

    All buffers are integers: a cast of the model leaves them alone. The values in use are plain
    Python (`context.step`, `config`), so that reading them never waits for a GPU; the buffers are
    written when a state dict is asked for and read when one is loaded.

    Args:
        method: Name of the method.
        config: The checked options.
        context: What the layers share.
        layers: The layers, by module name.
        counts_updates: Whether steps of the optimiser are counted, too.

    Attributes:
        step: 0-dim int64, micro-batches trained on.
        updates: 0-dim int64, steps of the optimiser; only where they are counted.
        signature: (bytes,) uint8, method, options and names of the weights fingerprinted, as JSON.
        fingerprint: (n, 17) int64, the bits of the base's fingerprint.
        bases_agreed: Whether all ranks have the same bases by now.
        base_replaced: Whether a load has put another base under the adapter (ESPnet's init_param).
        base_rows: The base's fingerprint from before its weights were narrowed; else None.
        name: What the adapter is called among those of its model.
        named: All adapters of its model by name, this one among them.
        ignored: Names that DDP leaves alone while this adapter computes.
        trained_on: What decoding has to know of an experiment's training, as in its config.yaml;
            goes into the adapter's file.
    """

    step: Tensor
    signature: Tensor
    fingerprint: Tensor

    def __init__(
        self,
        method: str,
        config: AdapterConfig,
        context: Context,
        layers: Mapping[str, AdapterLayer],
        counts_updates: bool,
    ) -> None:
        super().__init__()
        self.method = method
        self.config = config
        self.context = context
        self.layers = dict(layers)
        self.base_names: list[str] = []
        self.warned: set[str] = set()
        self.base_replaced = False
        self.base_rows: Tensor | None = None
        self.name = "default"
        self.named: dict[str, AdapterState] = {}
        self.ignored: list[str] = []
        self.trained_on: Mapping[str, Any] = {}
        self.elbo_step = -1
        self.bases_agreed = not any(layer.basis_names for layer in layers.values())
        self.counts = ["step", "updates"] if counts_updates else ["step"]
        for name in self.counts:
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        self.register_buffer("signature", torch.zeros(0, dtype=torch.uint8))
        self.register_buffer("fingerprint", torch.zeros(0, fp.WIDTH, dtype=torch.int64))

    def refresh(self, model: nn.Module) -> None:
        """Write the buffers from the values in use and from `model`'s weights as they are now.

        The base may have been loaded after the adapter was added; on the meta device the
        fingerprint stays zero.
        """
        device = self.step.device
        for name in self.counts:
            value = getattr(self.context, name)
            setattr(self, name, torch.tensor(value, dtype=torch.int64, device=device))
        description = {
            "format": 1,
            "method": self.method,
            "config": self.config.as_dict(),
            "base_names": self.base_names,
        }
        text = json.dumps(description, sort_keys=True).encode()
        self.signature = torch.frombuffer(bytearray(text), dtype=torch.uint8).to(device)
        rows = self.current_fingerprint(model)
        if rows is None:
            rows = torch.zeros(len(self.base_names), fp.WIDTH, dtype=torch.float64)
        self.fingerprint = fp.pack(rows).to(device)

    def current_fingerprint(self, model: nn.Module) -> Tensor | None:
        """Return the fingerprint (n, 17) of `model`'s weights, None on the meta device."""
        if self.base_rows is not None:
            return self.base_rows
        return fp.fingerprint(model.get_parameter(name) for name in self.base_names)

    def forward(self, x):
        """Return x: a Sequential with an adapter runs this module after its own."""
        return x

    def count_step(self) -> None:
        """Count one micro-batch; in the first one, layers note that they are called."""
        self.context.step += 1
        if "uncalled" not in self.warned:
            self.context.called = set()

    def name_uncalled(self) -> None:
        """Warn of the layers that the first training step has not called, once it is over."""
        called, self.context.called = self.context.called, None
        if called is None or not self.warn_once("uncalled"):
            return
        silent = [name for name, layer in self.layers.items() if layer.index not in called]
        if silent:
            log.warning(
                "adapter '%s': %d of %d adapted Linears were not called in the first training "
                "step: %s. Where a weight is read by a function (a functional attention) or its "
                "part of the model is not used, the adapter learns nothing from the data: leave "
                "them out of target_modules",
                self.method,
                len(silent),
                len(self.layers),
                ", ".join(silent[:6]) + (", ..." if len(silent) > 6 else ""),
            )

    def warn_once(self, key: str) -> bool:
        """Return whether the warning `key` has not been given yet, and mark it as given."""
        if key in self.warned:
            return False
        self.warned.add(key)
        return True

    def _load_from_state_dict(self, state_dict, prefix, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        for name in self.counts:
            if prefix + name in state_dict and not self.step.is_meta:
                setattr(self.context, name, int(getattr(self, name)))
                self.elbo_step = -1
        self.bases_agreed = not any(layer.basis_names for layer in self.layers.values())


def decode_signature(signature: Tensor) -> dict[str, Any]:
    """Return what a signature describes.

    Raises:
        ValueError: It does not hold the description of an adapter.
    """
    try:
        description = json.loads(bytes(signature.detach().cpu().tolist()).decode())
    except ValueError as error:
        raise ValueError(
            "the adapter's signature in this state dict is damaged; "
            "use an undamaged copy of the checkpoint"
        ) from error
    if not isinstance(description, dict) or not {"method", "config"} <= description.keys():
        raise ValueError(
            "the adapter's signature in this state dict describes no adapter; "
            "use a checkpoint saved by this package"
        )
    return description


# ---- averages ----


def average_states(
    states: Sequence[Mapping[str, Tensor]], best: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return `best` with its means replaced by their average over `states`.

    Means are what the method's layer calls so (`mean_names`): the factors of a LoRA. Scales (rho),
    step, signature, fingerprint and base weights are those of `best`: an average of scales belongs
    to no posterior, and integers and frozen weights are not to be averaged. What is the same in
    all states, such as a basis, stays as it is, bit for bit.

    Args:
        states: State dicts of one run.
        best: The state dict of its best checkpoint.

    Raises:
        ValueError: There is no state, no mean to average, or keys or shapes differ.
    """
    # Which keys are averaged, and whether all states have them.
    if not states:
        raise ValueError("no state to average; give at least one")
    names = _mean_names(best)
    means = [key for key in best if not names.isdisjoint(key.split("."))]
    if not means:
        raise ValueError(
            f"the best state holds no {' / '.join(sorted(names))}: it is not of an adapter of ours"
        )
    for number, state in enumerate(states):
        if state.keys() != best.keys():
            odd = sorted(state.keys() ^ best.keys())
            raise ValueError(
                f"state {number} and the best state differ in {len(odd)} keys, such as {odd[0]}; "
                "average checkpoints of one run only"
            )
        for key in means:
            if state[key].shape != best[key].shape:
                raise ValueError(
                    f"state {number}: {key} has shape {tuple(state[key].shape)}, "
                    f"{tuple(best[key].shape)} in the best state; average one run only"
                )

    # The averages, formed in fp64.
    result = dict(best)
    for key in means:
        if not all(torch.equal(state[key], best[key]) for state in states):
            mean = torch.stack([state[key].double() for state in states]).mean(0)
            result[key] = mean.to(best[key].dtype)
    return result


def _mean_names(state: Mapping[str, Tensor]) -> frozenset[str]:
    """Return the components that mark a mean in a state of the method it says it is of."""
    for key, value in state.items():
        if key.endswith(f"{STATE_NAME}.signature"):
            method = decode_signature(value)["method"]
            if method in METHODS:
                return frozenset(METHODS[method].layer.mean_names)
    return frozenset(METHODS["lora"].layer.mean_names)
