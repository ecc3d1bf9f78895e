"""Prompts of a search, and the detection of the language that they name."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor
from whisper.model import TextDecoder

from espnet_blora.whisper.decoder import forward
from espnet_blora.whisper.vocabulary import Vocabulary

TASKS = ("transcribe", "translate")
log = logging.getLogger(__name__)


def _ids(layout: Vocabulary, text: str | Sequence[int] | None, name: str) -> list[int]:
    """Return a text, or the ids of one, as ids; a text is put behind one blank, as words are."""
    if text is None:
        return []
    if isinstance(text, str):
        return layout.encode(" " + text.strip()) if text.strip() else []
    if wrong := [i for i in text if not 0 <= i < layout.size]:
        raise ValueError(f"{name}: ids {wrong} are not in {layout.stamp}")
    return list(text)


def _cut(ids: list[int], room: int, name: str, given: object) -> list[int]:
    """Return the last `room` ids; warn where a part of a user's text is left out."""
    if len(ids) > room and isinstance(given, str):
        log.warning("%s: %d tokens, of which the last %d are used", name, len(ids), room)
    return ids[max(0, len(ids) - room) :]


def build_prompt(
    layout: Vocabulary,
    language: str,
    task: str = "transcribe",
    initial_prompt: str | Sequence[int] | None = None,
    prefix: str | Sequence[int] | None = None,
    timestamps: bool = False,
    n_text_ctx: int = 448,
    max_tokens: int | None = None,
) -> list[int]:
    """[previous text behind its token], start, language, task, [no timestamps], [prefix].

    Without previous text, prefix and timestamps it is `Vocabulary.prompt`. As openai-whisper's
    `DecodingTask._get_initial_tokens`; there a `sample_len` above n_text_ctx // 2 drops the
    first tokens of a prefix, here the prefix is then whole.

    Args:
        layout: the vocabulary.
        language: code or English name.
        task: `transcribe` or `translate` (into English).
        initial_prompt: text that came before, or its ids: names, spelling, style. The last
            n_text_ctx // 2 - 1 tokens are used.
        prefix: how the text begins, or its ids; the search goes on behind it.
        timestamps: leave the token for no timestamps out.
        n_text_ctx: positions of the decoder.
        max_tokens: tokens the search may add, where that is limited; of the prefix the last
            n_text_ctx // 2 - max_tokens tokens are then used.

    Raises:
        ValueError: unknown language or task, ids that are none, or no room behind the prompt.
    """
    if task not in TASKS:
        raise ValueError(f"task {task!r}; allowed: {', '.join(TASKS)}")
    half = n_text_ctx // 2
    start = layout.prompt(language)
    start[2] = layout.transcribe if task == "transcribe" else layout.translate
    if timestamps:
        start.remove(layout.notimestamps)
    known = _ids(layout, prefix, "prefix")
    if max_tokens is not None and max_tokens < half:
        known = _cut(known, half - max_tokens, "prefix", prefix)
    if previous := _ids(layout, initial_prompt, "initial_prompt"):
        previous = _cut(previous, half - 1, "initial_prompt", initial_prompt)
        previous = [layout.tokenizer.sot_prev, *previous]
    prompt = [*previous, *start, *known]
    if len(prompt) >= n_text_ctx:
        raise ValueError(
            f"a prompt of {len(prompt)} tokens ({len(previous)} of previous text, {len(known)} of "
            f"the prefix) leaves no room: this Whisper has {n_text_ctx} positions; shorten the "
            "prefix"
        )
    return prompt


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
