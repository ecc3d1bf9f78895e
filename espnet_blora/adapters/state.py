"""The adapter's own state on the model: step, options and base fingerprint, as buffers.

It is the submodule `adapter_state` of the adapted model, so whatever saves the model's state dict
saves all that a reload needs and all that a load is checked against.
"""

import json

import torch
from torch import Tensor, nn

from espnet_blora.adapters import fingerprint as fp
from espnet_blora.adapters.config import AdapterConfig
from espnet_blora.adapters.context import Context
from espnet_blora.adapters.layer import AdapterLayer
from espnet_blora.adapters.registry import METHODS

STATE_NAME = "adapter_state"


class AdapterState(nn.Module):
    """Buffers `step` (0-dim int64), `signature` (JSON bytes), `fingerprint` (n, 17) int64.

    A method with an `after_step` has `updates` too, a count as `step` is.

    All integers: a cast of the model leaves them alone. The values in use are plain Python
    (`context.step`, `config`), so that reading them never waits for a GPU; the buffers are
    written when a state dict is asked for and read when one is loaded.
    """

    step: Tensor
    signature: Tensor
    fingerprint: Tensor

    def __init__(
        self, method: str, config: AdapterConfig, context: Context, layers: dict[str, AdapterLayer]
    ) -> None:
        super().__init__()
        self.method = method
        self.config = config
        self.context = context
        self.layers = dict(layers)
        self.base_names: list[str] = []
        self.warned: set[str] = set()
        self.elbo_step = -1
        self.bases_agreed = not any(layer.basis_names for layer in layers.values())
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("signature", torch.zeros(0, dtype=torch.uint8))
        self.register_buffer("fingerprint", torch.zeros(0, fp.WIDTH, dtype=torch.int64))
        if METHODS[method].after_step is not None:
            self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def describe(self) -> dict:
        """Return what `signature` holds: method, options, and the weights fingerprinted."""
        return {
            "format": 1,
            "method": self.method,
            "config": self.config.as_dict(),
            "base_names": self.base_names,
        }

    def refresh(self, model: nn.Module) -> None:
        """Write the buffers from the values in use and from `model`'s weights as they are now.

        The base may have been loaded after the adapter was added; on the meta device the
        fingerprint stays zero.
        """
        device = self.step.device
        for name in self._counts():
            value = getattr(self.context, name)
            setattr(self, name, torch.tensor(value, dtype=torch.int64, device=device))
        self.signature = encode_signature(self.describe()).to(device)
        rows = self.current_fingerprint(model)
        if rows is None:
            rows = torch.zeros(len(self.base_names), fp.WIDTH, dtype=torch.float64)
        self.fingerprint = fp.pack(rows).to(device)

    def current_fingerprint(self, model: nn.Module) -> Tensor | None:
        """Return the fingerprint (n, 17) of `model`'s weights, None on the meta device."""
        return fp.fingerprint(model.get_parameter(name) for name in self.base_names)

    def _counts(self) -> list[str]:
        return [name for name in ("step", "updates") if name in self._buffers]

    def advance(self) -> None:
        """Count one more micro-batch."""
        self.context.step += 1

    def forward(self, x):
        """Return x: a Sequential with an adapter runs this module after its own."""
        return x

    def warn_once(self, key: str) -> bool:
        """Whether the warning `key` has not been given yet; marks it as given."""
        if key in self.warned:
            return False
        self.warned.add(key)
        return True

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        for name in self._counts():
            if prefix + name in state_dict and not self.step.is_meta:
                setattr(self.context, name, int(getattr(self, name)))
                self.elbo_step = -1
        self.bases_agreed = not any(layer.basis_names for layer in self.layers.values())


def encode_signature(description: dict) -> Tensor:
    """Return a JSON description as (n,) uint8."""
    raw = json.dumps(description, sort_keys=True).encode()
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8)


def decode_signature(signature: Tensor) -> dict:
    """Undo `encode_signature`; ValueError when it holds no description of an adapter."""
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
