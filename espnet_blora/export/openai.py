"""One openai-whisper model of the halves decoded with; its checkpoint: `whisper.load_model`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import torch
from whisper.model import AudioEncoder, ModelDimensions, TextDecoder, Whisper

from espnet_blora.adapters.layer import AdapterLayer
from espnet_blora.whisper import new_tokens

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
        model: Of `assemble`; stored in fp32, which `load_model` builds anyway.
        folder: Is there.

    Raises:
        OSError: It cannot be written.
    """
    state = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    torch.save({"dims": asdict(model.dims), "model_state_dict": state}, folder / MODEL)
    heads = model.alignment_heads.to_dense().nonzero().tolist()
    (folder / HEADS).write_text(json.dumps(heads) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(README, encoding="utf-8")


def assemble(
    encoder: AudioEncoder, decoder: TextDecoder, heads: Iterable[tuple[int, int]]
) -> Whisper:
    """Return a Whisper of these halves, with copies of their weights in fp32, in eval mode.

    Args:
        encoder: Plain modules of openai-whisper, an adapter's update in their weights.
        decoder: The same.
        heads: (layer, head) of the cross-attention heads that follow time.

    Raises:
        ValueError: The decoder has tokens of new languages, or a layer is still an adapter's.
    """
    if new_tokens.find(decoder) is not None:
        raise ValueError(
            "this model has languages of its own (--new_languages), which cannot leave: outside, "
            "51,866 tokens mean large-v3, and its tokens would be read in silence"
        )
    for half in (encoder, decoder):
        layer = next((name for name, m in half.named_modules() if isinstance(m, AdapterLayer)), "")
        if layer:
            raise ValueError(f"{layer}: its adapter cannot be merged, so there is no plain Whisper")
    model = Whisper(_dims(encoder, decoder))
    halves = {"encoder": encoder, "decoder": decoder}
    state = {
        f"{half}.{name}": tensor.float()
        for half, module in halves.items()
        for name, tensor in module.state_dict().items()
    }
    model.load_state_dict(state)
    mask = torch.zeros(model.dims.n_text_layer, model.dims.n_text_head, dtype=torch.bool)
    for layer, head in heads:
        mask[layer, head] = True
    model.register_buffer("alignment_heads", mask.to_sparse(), persistent=False)
    return model.eval().requires_grad_(False)


def _dims(encoder: AudioEncoder, decoder: TextDecoder) -> ModelDimensions:
    """Return the dimensions that the halves have."""
    n_audio_ctx, n_audio_state = encoder.positional_embedding.shape
    n_text_ctx, n_text_state = decoder.positional_embedding.shape
    return ModelDimensions(
        n_mels=encoder.conv1.in_channels,
        n_audio_ctx=n_audio_ctx,
        n_audio_state=n_audio_state,
        n_audio_head=encoder.blocks[0].attn.n_head,
        n_audio_layer=len(encoder.blocks),
        n_vocab=decoder.token_embedding.num_embeddings,
        n_text_ctx=n_text_ctx,
        n_text_state=n_text_state,
        n_text_head=decoder.blocks[0].attn.n_head,
        n_text_layer=len(decoder.blocks),
    )
