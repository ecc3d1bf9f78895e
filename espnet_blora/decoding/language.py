"""Which language is spoken: what the model says behind the start token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from espnet_blora.whisper.decoder import forward
from espnet_blora.whisper.vocabulary import Vocabulary


@torch.no_grad()
def detect_language(
    decoder: nn.Module, memory: Tensor, memory_lengths: Tensor | None, layout: Vocabulary
) -> tuple[list[str], list[dict[str, float]]]:
    """The likeliest language of each utterance, and the probabilities of all.

    softmax over the language tokens alone of the logits behind the start token, as
    `whisper.detect_language`. Languages added to a model are not among them: it never says one.

    Args:
        decoder: a `whisper.model.TextDecoder`.
        memory: encoder output, (B, T, n_state).
        memory_lengths: real positions of each row, (B,); None when nothing is padded.
        layout: the vocabulary.

    Returns:
        B language codes, and B dicts from code to probability (they sum to 1).
    """
    ids = {code: i for code, i in layout.languages.items() if i < layout.n_vocab}
    start = torch.full((len(memory), 1), layout.sot, device=memory.device)
    logits = forward(decoder, start, memory, memory_lengths)[:, 0]
    columns = torch.tensor(list(ids.values()), device=memory.device)
    rows = logits[:, columns].softmax(-1).tolist()
    found = [dict(zip(ids, row, strict=True)) for row in rows]
    return [max(row, key=row.get) for row in found], found
