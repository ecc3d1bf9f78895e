"""Prompts of a search, and the detection of the language that they name."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor
from whisper.model import TextDecoder

from espnet_blora.whisper.decoder import forward
from espnet_blora.whisper.vocabulary import Vocabulary

log = logging.getLogger(__name__)


def build_prompt(
    vocabulary: Vocabulary,
    language: str,
    task: str = "transcribe",
    initial_prompt: str | None = None,
    n_text_ctx: int = 448,
    said: Sequence[int] = (),
) -> list[int]:
    """[previous text behind its token], start, language, task, no timestamps.

    Without previous text it is `Vocabulary.prompt`. As openai-whisper's
    `DecodingTask._get_initial_tokens`.

    Args:
        vocabulary: the vocabulary.
        language: code or English name.
        task: `transcribe` or `translate` (into English).
        initial_prompt: text that came before: names, spelling, style. The last
            n_text_ctx // 2 - 1 tokens are used; the log says where some are left out.
        n_text_ctx: positions of the decoder.
        said: tokens of the text that was found before, of which the last follow the initial prompt.

    Raises:
        ValueError: unknown language.
    """
    prompt = vocabulary.prompt(language)
    prompt[2] = vocabulary.translate if task == "translate" else vocabulary.transcribe
    text, room = (initial_prompt or "").strip(), n_text_ctx // 2 - 1
    previous = vocabulary.encode(f" {text}") if text else []
    if len(previous) > room:
        log.warning("initial_prompt: %d tokens, of which the last %d are used", len(previous), room)
        previous = previous[-room:]
    previous += said[max(0, len(said) - room + len(previous)) :]
    return [vocabulary.tokenizer.sot_prev, *previous, *prompt] if previous else prompt


@torch.no_grad()
def detect_language(
    decoder: TextDecoder,
    memory: Tensor,
    memory_lengths: Tensor | None,
    vocabulary: Vocabulary,
    among: Sequence[str] = (),
) -> tuple[list[str], list[dict[str, float]]]:
    """Return the likeliest language of each utterance, and the probabilities of all.

    softmax over the language tokens alone of the logits behind the start token, as
    `whisper.detect_language`. Languages added to a model are not among them: it never says one.

    Args:
        decoder: a `whisper.model.TextDecoder`.
        memory: encoder output, (B, T, n_state).
        memory_lengths: real positions of each row, (B,); None when nothing is padded.
        vocabulary: the vocabulary.
        among: codes to choose from; none for all.

    Returns:
        B language codes, and B dicts from code to probability (they sum to 1).
    """
    known = {code: i for code, i in vocabulary.languages.items() if i < vocabulary.n_vocab}
    ids = {code: i for code, i in known.items() if code in among} or known
    start = torch.full((len(memory), 1), vocabulary.sot, device=memory.device)
    logits = forward(decoder, start, memory, memory_lengths)[:, 0]
    columns = torch.tensor(list(ids.values()), device=memory.device)
    rows = logits[:, columns].softmax(-1).tolist()
    shares = [dict(zip(ids, row, strict=True)) for row in rows]
    return [max(row, key=row.__getitem__) for row in shares], shares
