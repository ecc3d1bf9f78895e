"""When each word is said: what the decoder looks at while it writes, brought into order.

Some heads of cross-attention follow the audio from left to right. Given a text, one pass of the
decoder says for each of its tokens which memory positions (20 ms each) these heads look at, and
dynamic time warping finds the path through them that only goes forward: where it enters a token
the token begins.

Source: openai-whisper `whisper/timing.py` (``find_alignment``), whose filter and warping are used
here; what differs is that a batch is aligned at once and that padding is never looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from whisper.audio import TOKENS_PER_SECOND

from espnet_blora.decoding.words import Split, word_spans
from espnet_blora.whisper.decoder import logits_of, states
from espnet_blora.whisper.vocabulary import Layout

MEDIAN_WIDTH = 7
"""Positions over which weights are smoothed, openai-whisper's figure."""

FRAME = 320
"""Samples of a memory position."""

PAUSE = 10
"""Quiet positions in a row that are a pause."""

NEAR = 10
"""Positions by which a word may be put later or earlier to begin behind a pause."""

_SMALLEST = 1e-12


class WordTime(NamedTuple):
    """A word, when it begins and ends (seconds), and the mean probability of its tokens."""

    word: str
    start: float
    end: float
    probability: float


@contextmanager
def _asked(decoder: nn.Module, layers: Sequence[int]) -> Iterator[dict[int, dict[str, Tensor]]]:
    """Collect what cross-attention asks with (``query``) and is asked for (``key``), by layer."""
    found: dict[int, dict[str, Tensor]] = {layer: {} for layer in layers}
    handles = [
        getattr(decoder.blocks[layer].cross_attn, side).register_forward_hook(
            lambda _, __, output, side=side, layer=layer: found[layer].__setitem__(side, output)
        )
        for layer in layers
        for side in ("query", "key")
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _plain(prompt: Sequence[int], layout: Layout) -> list[int]:
    """A prompt as texts are aligned with it: no previous text, always without timestamps."""
    ids = list(prompt)
    if layout.sot not in ids[:-2]:
        raise ValueError(
            f"prompt {ids}: start of transcript ({layout.sot}), language and task are needed"
        )
    ids = ids[ids.index(layout.sot) :]
    return ids if layout.notimestamps in ids else [*ids[:3], layout.notimestamps, *ids[3:]]


def _weights(
    asked: dict[int, dict[str, Tensor]],
    heads: Sequence[tuple[int, int]],
    n_head: int,
    row: int,
    n_tokens: int,
    n_positions: int,
) -> Tensor:
    """Attention logits of one utterance, (heads, n_tokens, n_positions) fp32."""

    def of(layer: int, head: int, side: str, length: int) -> Tensor:
        return asked[layer][side][row, :length].unflatten(-1, (n_head, -1))[:, head].float()

    return torch.stack([
        of(layer, head, "query", n_tokens)
        @ of(layer, head, "key", n_positions).T
        / (asked[layer]["query"].shape[-1] // n_head) ** 0.5
        for layer, head in heads
    ])  # fmt: skip


def pauses(wave: Tensor) -> Tensor:
    """Where nobody speaks: (ceil(samples / 320),) bool, one for each memory position.

    A pause is 0.2 s or more in which every 20 ms are quiet: 35 dB below the loud ones (their 90 %
    quantile); where there is noise, up to 15 dB below them and at most 6 dB above the quiet ones
    (their 10 % quantile).

    Args:
        wave: (samples,) at 16 kHz, one at least.
    """
    frames = nn.functional.pad(wave.float(), (0, -len(wave) % FRAME)).unflatten(0, (-1, FRAME))
    loudness = 10 * frames.pow(2).mean(1).clamp(min=1e-10).log10()
    loud, low = loudness.quantile(0.9), loudness.quantile(0.1)
    quiet = loudness < torch.maximum(loud - 35, torch.minimum(low + 6, loud - 15))
    edges = quiet.int().diff(prepend=quiet.new_zeros(1).int(), append=quiet.new_zeros(1).int())
    found = torch.zeros_like(quiet)
    begins, ends = (edges == 1).nonzero().flatten(), (edges == -1).nonzero().flatten()
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        if begin == 0 or end == len(quiet) or end - begin >= PAUSE:
            found[begin:end] = True
    return found


def _path(weights: Tensor, n_prompt: int) -> np.ndarray:
    """Where each text token begins, and where the last one ends, in positions (L + 1,).

    w = softmax over positions; z = (w - mean) / std over tokens, median-filtered over positions
    and averaged over heads; the path through -z with the least sum, from the first position and
    token to the last.

    Args:
        weights: attention logits (heads, n_prompt + L + 1, positions), end of text being read too.
        n_prompt: tokens before the text.
    """
    from whisper.timing import dtw, median_filter  # numba: seconds that only alignment costs

    weights = weights.softmax(-1)
    std, mean = torch.std_mean(weights, dim=-2, keepdim=True, unbiased=False)
    weights = median_filter((weights - mean) / std.clamp(min=_SMALLEST), MEDIAN_WIDTH)
    import os
    drop = os.environ.get('DROP') and os.environ.get('Q')
    matrix = weights.mean(0)[n_prompt - 1 : -2 if drop else -1]
    if drop:
        tokens, positions = dtw(-matrix.cpu())
        return np.append(positions[np.diff(tokens, prepend=-1) > 0], matrix.shape[1])
    tokens, positions = dtw(-matrix.cpu())
    return positions[np.diff(tokens, prepend=-1) > 0]


def _snapped(begins: np.ndarray, breaks: Sequence[int], words: Sequence[int]) -> np.ndarray:
    """Put the nearest beginning of a word at each break that is near; see :data:`NEAR`.

    begins: positions at which tokens begin, rising. breaks: positions behind a pause. words: tokens
    that begin a word.
    """
    begins = begins.copy()
    for at in breaks:
        token = min(words, key=lambda k: abs(begins[k] - at), default=None)
        if token is None or abs(begins[token] - at) > NEAR:
            continue
        begins[token:] = np.maximum(begins[token:], at)
        begins[: token + 1] = np.minimum(begins[: token + 1], at)
    return begins


def _times(
    spans: Sequence[tuple[str, int, int]],
    begins: np.ndarray,
    heard: np.ndarray,
    probabilities: np.ndarray,
) -> list[WordTime]:
    """Words with their times; words that share a token share its time in equal parts.

    begins: where tokens begin, and the last one ends, among the positions `heard` (no pauses).
    """
    holders: dict[int, list[int]] = {}
    for number, (_, first, last) in enumerate(spans):
        for token in range(first, last):
            holders.setdefault(token, []).append(number)
    # a moment that begins something lies behind a pause, one that ends something before it
    opens = np.append(heard, heard[-1] + 1)
    closes = np.insert(heard + 1, 0, heard[0])

    def moment(token: int, number: int, after: int) -> float:
        part = (holders[token].index(number) + after) / len(holders[token])
        at = begins[token] + part * (begins[token + 1] - begins[token])
        whole = int(at)
        return float((closes if after else opens)[whole] + at - whole) / TOKENS_PER_SECOND

    found = []
    for number, (word, first, last) in enumerate(spans):
        start, end = moment(first, number, 0), moment(last - 1, number, 1)
        chance = float(probabilities[first:last].mean())
        found.append(WordTime(word, start, max(start, end), chance))
    return found


def _heard(quiet: Tensor | None, n_positions: int) -> np.ndarray:
    """The positions that are not quiet; all of them, where all are."""
    import os
    if quiet is None:
        return np.arange(n_positions)
    q = quiet[:n_positions].cpu().numpy().copy()
    f = np.flatnonzero(~q)
    if not len(f):
        return np.arange(n_positions)
    k = int(os.environ.get("KEEP", 0))
    q[max(0, f[0] - k):f[0]] = False
    q[f[-1]+1:f[-1]+1+k] = False
    return np.flatnonzero(~q)


@torch.inference_mode()
def word_times(
    decoder: nn.Module,
    memory: Tensor,
    memory_lengths: Tensor | None,
    prompts: Sequence[Sequence[int]],
    texts: Sequence[Sequence[int]],
    layout: Layout,
    heads: Sequence[tuple[int, int]],
    split: Split,
    positions: Sequence[int] | Tensor | None = None,
    quiet: Sequence[Tensor] | None = None,
) -> list[list[WordTime]]:
    """Align the texts of a batch with their audio.

    As openai-whisper's ``find_alignment``: the first word begins with the audio and words follow
    each other without a gap, so that a pause belongs to a word beside it. Given `quiet`, pauses
    belong to none: the path does not lead through them, and a word that would begin within 0.2 s
    of one begins behind it. A probability is that of a token among all text tokens.

    Args:
        decoder: a ``whisper.model.TextDecoder``.
        memory: encoder output, (B, T, n_state).
        memory_lengths: real positions of each row, (B,); None when nothing is padded.
        prompts: B prompts, of any length; previous text is left out, and timestamps are.
        texts: B texts, ids behind the prompt; control tokens and timestamps are left out.
        layout: the vocabulary.
        heads: (layer, head) of the cross-attention heads that follow time, one at least.
        split: the text (NFC) to its words, see :func:`espnet_blora.decoding.words.word_spans`.
        positions: memory positions of each row that hold its audio, where that is less than its
            length: in Whisper's 30 s window ceil(samples / 320).
        quiet: for each row, True at the memory positions where nobody speaks, see :func:`pauses`.

    Returns:
        The words of each text, in order; none for an empty text.

    Raises:
        ValueError: not one prompt and text an utterance, a prompt without start of transcript, a
            head that the decoder does not have, more tokens than it has positions, or a ``split``
            that changes the words.
    """
    n_head = decoder.blocks[0].cross_attn.n_head
    _check(len(memory), prompts, texts, heads, len(decoder.blocks), n_head)
    if positions is None:
        positions = [memory.shape[1]] * len(memory) if memory_lengths is None else memory_lengths
    positions = [max(1, min(int(n), memory.shape[1])) for n in positions]
    said = [[i for i in text if 0 <= i < layout.eot] for text in texts]
    starts = [_plain(prompt, layout) for prompt in prompts]
    found: list[list[WordTime]] = [[] for _ in said]
    rows = [row for row, text in enumerate(said) if text]
    if not rows:
        return found
    read = [torch.tensor([*starts[row], *said[row], layout.eot]) for row in rows]
    tokens = nn.utils.rnn.pad_sequence(read, batch_first=True, padding_value=layout.eot)
    index = torch.tensor(rows, device=memory.device)
    if len(rows) < len(memory):
        memory = memory[index]
        memory_lengths = None if memory_lengths is None else memory_lengths.to(index.device)[index]
    with _asked(decoder, sorted({layer for layer, _ in heads})) as asked:
        hidden = states(decoder, tokens.to(memory.device), memory, memory_lengths)
    for place, row in enumerate(rows):
        n_prompt, ids = len(starts[row]), said[row]
        heard = _heard(quiet[row] if quiet is not None else None, positions[row])
        weights = _weights(asked, heads, n_head, place, len(read[place]), positions[row])
        logits = logits_of(decoder, hidden[place, n_prompt - 1 : n_prompt - 1 + len(ids)])
        chances = logits[:, : layout.eot].softmax(-1).cpu()
        probabilities = chances[torch.arange(len(ids)), torch.tensor(ids)].numpy()
        spans = word_spans(layout, ids, split)
        begins = _path(weights[..., heard], n_prompt)
        import os
        if quiet is not None and os.environ.get("EOTROW"):
            begins[-1] = len(heard)
        breaks = np.flatnonzero(np.diff(heard) > 1) + 1
        begins = _snapped(begins, breaks.tolist(), [first for _, first, _ in spans])
        found[row] = _times(spans, begins, heard, probabilities)
        if quiet is not None and found[row]:
            f = np.flatnonzero(~quiet[row].numpy())
            w = found[row][0]
            found[row][0] = w._replace(start=min(w.end, max(w.start, f[0] / 50)))
            w = found[row][-1]
            found[row][-1] = w._replace(end=max(w.start, min(w.end, (f[-1] + 1) / 50)))
    return found


def _check(
    n: int,
    prompts: Sequence[Sequence[int]],
    texts: Sequence[Sequence[int]],
    heads: Sequence[tuple[int, int]],
    n_layer: int,
    n_head: int,
) -> None:
    if not n == len(prompts) == len(texts):
        raise ValueError(
            f"{n} memories, {len(prompts)} prompts and {len(texts)} texts: one of each is needed"
        )
    wrong = [pair for pair in heads if not (0 <= pair[0] < n_layer and 0 <= pair[1] < n_head)]
    if wrong or not heads:
        raise ValueError(
            f"alignment heads {wrong or 'none'}; allowed: one or more (layer, head) with layers "
            f"from 0 to {n_layer - 1} and heads from 0 to {n_head - 1}"
        )
