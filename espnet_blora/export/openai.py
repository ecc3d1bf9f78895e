"""openai-whisper's checkpoint: `whisper.load_model(FILE)`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from whisper.model import Whisper

MODEL, HEADS = "model.pt", "alignment_heads.json"
README = """\
# A Whisper for openai-whisper

    import json, torch, whisper
    model = whisper.load_model("model.pt")
    heads = torch.zeros(model.dims.n_text_layer, model.dims.n_text_head, dtype=torch.bool)
    for layer, head in json.load(open("alignment_heads.json")):
        heads[layer, head] = True
    model.register_buffer("alignment_heads", heads.to_sparse(), persistent=False)

The last four lines are for word timestamps: load_model knows the alignment heads of the published
files alone, and takes all heads of the last half of the layers for any other.
"""


def write_openai(model: Whisper, folder: Path) -> None:
    """Write the checkpoint, its alignment heads and how to load them.

    Args:
        model: Of `whole.assemble`; stored in fp32, which `load_model` builds anyway.
        folder: Is there.

    Raises:
        OSError: It cannot be written.
    """
    state = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    torch.save({"dims": asdict(model.dims), "model_state_dict": state}, folder / MODEL)
    heads = model.alignment_heads.to_dense().nonzero().tolist()
    (folder / HEADS).write_text(json.dumps(heads) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(README, encoding="utf-8")
