"""Stock ESPnet's LoRA: loralib's factors, in a checkpoint whose weights may hold them already.

`loralib` (0.1.2) adds the update to `weight` in eval(), and ESPnet saves after validating. So a
whole checkpoint holds either the base's weights or the sums, beside the factors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from whisper.model import Whisper

from espnet_blora.export.incoming import Incoming, Part, as_lora

TOLERANCE = 1e-4  # of a sum, relative to the largest weight; merging and unmerging rounds


def read_loralib(
    config: Mapping[str, Any], state: Mapping[str, Tensor], plain: Whisper, where: str
) -> Incoming:
    """Return the LoRA of a stock ESPnet checkpoint.

    Args:
        config: Of its config.yaml.
        state: Of the checkpoint: factors alone, or with all weights.
        plain: The Whisper that it was trained on.
        where: The checkpoint, for messages.

    Raises:
        ValueError: It is of another base, or was trained beside the LoRA, too; names the weight.
    """
    conf = config.get("adapter_conf") or config.get("lora_conf") or {}
    alpha = conf.get("alpha", 8)  # ESPnet's own default
    if not isinstance(alpha, (int, float)):
        raise ValueError(f"{where}: alpha in its config.yaml is {alpha!r}; a number is expected")
    names = {re.sub(r"^(en|de)coder\.\1coders\.", r"\1coder.", key): key for key in state}
    base = plain.state_dict()
    parts = {}
    for name in names:
        layer, _, side = name.rpartition(".")
        if side == "lora_A":
            up = names.get(f"{layer}.lora_B")
            if up is None:
                raise ValueError(f"{where}: {layer}.lora_B is missing: the file is cut")
            down = state[names[name]].float()
            parts[layer] = Part(down, state[up].float(), alpha / len(down))
    incoming = as_lora(parts, plain)

    # Weights that came along are the base's, or the base's with the update in them.
    for name, key in names.items():
        layer, _, side = name.rpartition(".")
        if side in ("lora_A", "lora_B"):
            continue
        if name not in base:
            raise ValueError(f"{where}: {key} is not of a Whisper with a LoRA")
        weight, start = state[key].float(), base[name]
        sums = [start]
        if side == "weight" and layer in parts:
            part = parts[layer]
            sums.append(start + part.scaling * part.up @ part.down)
        if weight.shape != start.shape or not any(_close(weight, one) for one in sums):
            raise ValueError(
                f"{where}: {key} is neither the base's nor the base's with the LoRA in it: of "
                "another base, or trained beside it; give the --base that it was trained on"
            )
    return incoming


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0.0, atol=TOLERANCE * other.abs().max().item())
