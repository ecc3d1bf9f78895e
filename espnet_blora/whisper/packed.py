"""Linear layers on the CPU through oneDNN with weights laid out for it once.

torch's own fp32 product goes through MKL, which on AMD's processors reaches less than half of what
oneDNN does (`benchmarks/decode.py` has the figures). torch has oneDNN's product inside, as its
compiler uses it: the operators `mkldnn::_reorder_linear_weight` and `_linear_pointwise`. They are
not public, so they are tried on a small product first; where they are missing or wrong, nothing is
packed. Sums are taken in another order, so results differ in the last bits (1e-6 of the largest).
"""

from __future__ import annotations

import logging
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from whisper.model import AudioEncoder, Linear, TextDecoder

WORTH = 2**17
"""Elements of a decoder's weight from which packing pays for the operator's fixed cost."""

log = logging.getLogger(__name__)


def _pack(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, None)


def _product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether this torch has the operators, and they compute a linear layer."""
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(s, generator=generator) for s in ((3, 5, 16), (32, 16), (32,)))
    try:
        with torch.no_grad():
            found = _product(x, _pack(weight), bias)
    except (AttributeError, RuntimeError, TypeError) as error:
        log.info("weights are not packed for oneDNN: %s", " ".join(str(error).split()))
        return False
    return bool(torch.allclose(found, F.linear(x, weight, bias), atol=1e-5))


class PackedLinear(nn.Module):
    """A Linear that only computes, fp32 on the CPU: (..., d_in) -> (..., d_out), no gradient."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.packed = _pack(weight.detach())
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b."""
        return _product(x, self.packed, self.bias)

    def extra_repr(self) -> str:
        """Show the sizes in the model's repr."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def pack(half: AudioEncoder | TextDecoder, least: int = 0) -> int:
    """Replace the plain Linears of a half of a Whisper by packed ones, and say how many.

    Layers with an adapter inside are left as they are. The weights are laid out anew, not kept
    twice; a decoder's token embedding is, because it is looked up too.

    Args:
        half: a `whisper.model.AudioEncoder` or `TextDecoder` in evaluation mode, on the CPU.
        least: elements of a weight from which it is packed.
    """
    if not available():
        return 0
    places = [
        (parent, name, child)
        for parent in half.modules()
        for name, child in parent.named_children()
        if type(child) in (Linear, nn.Linear)
        and child.weight.numel() >= least
        and child.weight.dtype == torch.float32
        and child.weight.device.type == "cpu"
    ]
    for parent, name, child in places:
        setattr(parent, name, PackedLinear(child.weight, child.bias))
    embedding = getattr(half, "token_embedding", None)
    if embedding is not None and embedding.weight.device.type == "cpu":
        half.packed_logits = PackedLinear(embedding.weight)
    return len(places)
