"""Prompts of a search, and the detection of the language that they name."""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from whisper.model import TextDecoder

from espnet_blora.whisper.decoder import forward
from espnet_blora.whisper.vocabulary import Vocabulary

log = logging.getLogger(__name__)


def build_prompt(
    layout: Vocabulary,
    language: str,
    task: str = "transcribe",
    initial_prompt: str | None = None,
    n_text_ctx: int = 448,
) -> list[int]:
    """[previous text behind its token], start, language, task, no timestamps.

    Without previous text it is `Vocabulary.prompt`. As openai-whisper's
    `DecodingTask._get_initial_tokens`.

    Args:
        layout: the vocabulary.
        language: code or English name.
        task: `transcribe` or `translate` (into English).
        initial_prompt: text that came before: names, spelling, style. The last
            n_text_ctx // 2 - 1 tokens are used; the log says where some are left out.
        n_text_ctx: positions of the decoder.

    Raises:
        ValueError: unknown language.
    """
    prompt = layout.prompt(language)
    prompt[2] = layout.translate if task == "translate" else layout.transcribe
    text = (initial_prompt or "").strip()
    if not text:
        return prompt
    previous, room = layout.encode(f" {text}"), n_text_ctx // 2 - 1
    if len(previous) > room:
        log.warning("initial_prompt: %d tokens, of which the last %d are used", len(previous), room)
    return [layout.tokenizer.sot_prev, *previous[-room:], *prompt]


@torch.no_grad()
def detect_language(
    decoder: TextDecoder, memory: Tensor, memory_lengths: Tensor | None, layout: Vocabulary
) -> tuple[list[str], list[dict[str, float]]]:
    """Return the likeliest language of each utterance, and the probabilities of all.

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
    shares = [dict(zip(ids, row, strict=True)) for row in rows]
    return [max(row, key=row.__getitem__) for row in shares], shares
