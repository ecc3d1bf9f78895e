"""Word times: the decoder's cross-attention, aligned with the audio by dynamic time warping.

Some heads of cross-attention follow the audio from left to right. Given a text, one pass of the
decoder says for each of its tokens which memory positions (20 ms each) these heads look at, and
dynamic time warping finds the path through them that only goes forward: where it enters a token
the token begins.

Source: openai-whisper `whisper/timing.py` (`find_alignment`); what differs is that a batch is
aligned at once and that padding is never looked at. The filter and the warping find the same
without numba, which compiles for seconds and sets torch's threads to all cores, and without Triton,
which compiles on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from whisper.audio import TOKENS_PER_SECOND
from whisper.model import TextDecoder

from espnet_blora.decoding.silence import SpeechMask
from espnet_blora.decoding.words import Split, word_spans
from espnet_blora.whisper.decoder import logits_of, states
from espnet_blora.whisper.vocabulary import Vocabulary

MEDIAN_WIDTH = 7
"""Positions over which weights are smoothed, openai-whisper's figure."""

_SMALLEST = 1e-12


class WordTime(NamedTuple):
    """A word, when it begins and ends (seconds), and the mean probability of its tokens."""

    word: str
    start: float
    end: float
    probability: float


@contextmanager
def _watched(decoder: TextDecoder, layers: Sequence[int]) -> Iterator[dict[int, dict[str, Tensor]]]:
    """Collect the queries and keys of cross-attention, by layer: (B, L or T, n_state) each."""
    sides: dict[int, dict[str, Tensor]] = {layer: {} for layer in layers}
    handles = [
        getattr(decoder.blocks[layer].cross_attn, side).register_forward_hook(
            lambda _, __, output, side=side, layer=layer: sides[layer].__setitem__(side, output)
        )
        for layer in layers
        for side in ("query", "key")
    ]
    try:
        yield sides
    finally:
        for handle in handles:
            handle.remove()


def _weights(
    sides: dict[int, dict[str, Tensor]],
    heads: Sequence[tuple[int, int]],
    n_head: int,
    row: int,
    n_tokens: int,
    n_positions: int,
) -> Tensor:
    """Attention logits of one utterance, (heads, n_tokens, n_positions) fp32."""

    def of(layer: int, head: int, side: str, length: int) -> Tensor:
        return sides[layer][side][row, :length].unflatten(-1, (n_head, -1))[:, head].float()

    return torch.stack([
        of(layer, head, "query", n_tokens)
        @ of(layer, head, "key", n_positions).T
        / (sides[layer]["query"].shape[-1] // n_head) ** 0.5
        for layer, head in heads
    ])  # fmt: skip


def warp(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the path of the least sum from the first row and column to the last, going forward.

    The path of `whisper.timing.dtw`, ties included: sums are fp32, all of an antidiagonal at once.

    Args:
        costs: (rows, columns) fp64.

    Returns:
        The row and the column of each step.

    >>> rows, columns = warp(np.array([[0.0, 9.0, 9.0], [9.0, 0.0, 0.0]]))
    >>> rows.tolist(), columns.tolist()
    ([0, 1, 1], [0, 1, 2])
    """
    n, m = costs.shape
    local = np.pad(costs, ((1, 0), (1, 0))).ravel()  # (n + 1) * (m + 1)
    total = np.full(local.shape, np.inf, np.float32)
    moves = np.full(local.shape, 2, np.int8)  # 0: both, 1: a row, 2: a column
    moves[:: m + 1] = 1
    total[0] = 0
    # row i of an antidiagonal lies at i * m + diagonal
    for diagonal in range(2, n + m + 1):
        begin = max(1, diagonal - m) * m + diagonal
        end = min(n, diagonal - 1) * m + diagonal + 1
        both, row, column = (total[begin - back : end - back : m] for back in (m + 2, m + 1, 1))
        diagonally = (both < row) & (both < column)
        move = np.where(diagonally, 0, np.where((row < both) & (row < column), 1, 2))
        moves[begin:end:m] = move
        total[begin:end:m] = local[begin:end:m] + np.choose(move, (both, row, column))
    # back from the end
    path = []
    i, j = n, m
    while i > 0 or j > 0:
        path.append((i - 1, j - 1))
        move = moves[i * (m + 1) + j]
        i, j = i - (move != 2), j - (move != 1)
    rows, columns = np.array(path[::-1]).T
    return rows, columns


def median_filter(x: Tensor, width: int) -> Tensor:
    """Return the median of `width` (odd) neighbours along the last axis, edges reflected.

    The figures of `whisper.timing.median_filter`; x of at most width // 2 positions stays as it is.
    """
    if x.shape[-1] <= width // 2:
        return x
    wide = F.pad(x, (width // 2, width // 2), mode="reflect")
    return wide.unfold(-1, width, 1).sort()[0][..., width // 2]


def _path(weights: Tensor, n_prompt: int, n_text: int) -> np.ndarray:
    """Where each text token begins, and where the last one ends, in positions (L + 1,).

    w = softmax over positions; z = (w - mean) / std over tokens, median-filtered over positions
    and averaged over heads; the path through -z with the least sum, from the first position and
    token to the last.

    Args:
        weights: attention logits (heads, n_prompt + L + 1, positions), end of text being read too;
            one or two rows less, where the decoder has no more positions.
        n_prompt: tokens before the text.
        n_text: L.
    """
    # normalise and smooth, (heads, tokens, positions)
    weights = weights.softmax(-1)
    std, mean = torch.std_mean(weights, dim=-2, keepdim=True, unbiased=False)
    weights = median_filter((weights - mean) / std.clamp(min=_SMALLEST), MEDIAN_WIDTH)
    # the best path through the mean over heads, (L + 1, positions)
    matrix = weights.mean(0)[n_prompt - 1 : n_prompt + n_text]
    tokens, positions = warp(-matrix.double().cpu().numpy())
    begins = positions[np.diff(tokens, prepend=-1) > 0]
    return begins if len(begins) > n_text else np.append(begins, matrix.shape[1])


def _times(
    spans: Sequence[tuple[str, int, int]],
    begins: np.ndarray,
    audio: SpeechMask,
    probabilities: np.ndarray,
) -> list[WordTime]:
    """Words with their times; words that share a token share its time in equal parts.

    begins: where tokens begin, and the last one ends, in the path.
    """
    holders: dict[int, list[int]] = {}
    for number, (_, first, last) in enumerate(spans):
        for token in range(first, last):
            holders.setdefault(token, []).append(number)

    def place(token: int, number: int, after: int) -> float:
        part = (holders[token].index(number) + after) / len(holders[token])
        return begins[token] + part * (begins[token + 1] - begins[token])

    times = []
    for number, (word, first, last) in enumerate(spans):
        start, end = audio.tight(
            audio.moment(place(first, number, 0), end=False),
            audio.moment(place(last - 1, number, 1), end=True),
        )
        chance = float(probabilities[first:last].mean())
        times.append(WordTime(word, start / TOKENS_PER_SECOND, end / TOKENS_PER_SECOND, chance))
    return times


@torch.inference_mode()
def word_times(
    decoder: TextDecoder,
    memory: Tensor,
    memory_lengths: Tensor | None,
    prompts: Sequence[Sequence[int]],
    texts: Sequence[Sequence[int]],
    vocabulary: Vocabulary,
    heads: Sequence[tuple[int, int]],
    split: Split,
    positions: Sequence[int] | Tensor,
    quiet: Sequence[np.ndarray] | None = None,
) -> list[list[WordTime]]:
    """Align the texts of a batch with their audio.

    As openai-whisper's `find_alignment`: the first word begins with the audio and words follow
    each other without a gap, so that a pause belongs to a word beside it. Given `quiet`, pauses
    belong to none: the path does not lead through them, and a word that would begin within 0.2 s
    of one begins behind it. A probability is that of a token among all text tokens.

    Args:
        decoder: a `whisper.model.TextDecoder`.
        memory: encoder output, (B, T, n_state).
        memory_lengths: real positions of each row, (B,); None when nothing is padded.
        prompts: B prompts, of any length; previous text is left out.
        texts: B texts, ids behind the prompt; control tokens and timestamps are left out.
        vocabulary: the vocabulary.
        heads: (layer, head) of the cross-attention heads that follow time, one at least.
        split: the text (NFC) to its words, see `espnet_blora.decoding.words.word_spans`.
        positions: memory positions of each row that hold its audio, ceil(samples / 320); its length
            may be more, as in Whisper's 30 s window.
        quiet: for each row, True at the memory positions where nobody speaks, as
            `espnet_blora.decoding.silence.quiet_positions` finds them.

    Returns:
        The words of each text, in order; none for an empty text.

    Raises:
        ValueError: more tokens than the decoder has positions, or a `split` that changes the words.
    """
    positions = [max(1, min(int(n), memory.shape[1])) for n in positions]
    # texts without control tokens, prompts without previous text; only rows with a text are aligned
    plain = [[i for i in text if 0 <= i < vocabulary.eot] for text in texts]
    starts = [prompt[prompt.index(vocabulary.sot) :] for prompt in prompts]
    times: list[list[WordTime]] = [[] for _ in plain]
    rows = [row for row, text in enumerate(plain) if text]
    if not rows:
        return times
    room = decoder.positional_embedding.shape[0]
    for row in rows:
        if len(starts[row]) + len(plain[row]) > room + 1:
            raise ValueError(
                f"row {row} of the batch: {len(starts[row])} tokens of the prompt and "
                f"{len(plain[row])} of the text; this Whisper has {room} positions"
            )
    # one pass of the decoder over all of them
    read = [torch.tensor([*starts[row], *plain[row], vocabulary.eot][:room]) for row in rows]
    tokens = nn.utils.rnn.pad_sequence(
        read, batch_first=True, padding_value=vocabulary.eot
    )  # (R, L)
    index = torch.tensor(rows, device=memory.device)
    if len(rows) < len(memory):
        memory = memory[index]
        memory_lengths = None if memory_lengths is None else memory_lengths.to(index.device)[index]
    with _watched(decoder, sorted({layer for layer, _ in heads})) as sides:
        hidden = states(
            decoder, tokens.to(memory.device), memory, memory_lengths
        )  # (R, L, n_state)
    for place, row in enumerate(rows):
        # probabilities among the text tokens, (L,)
        n_prompt, ids = len(starts[row]), plain[row]
        logits = logits_of(decoder, hidden[place, n_prompt - 1 : n_prompt - 1 + len(ids)])
        chances = logits[:, : vocabulary.eot].softmax(-1)
        chosen = torch.tensor(ids, device=chances.device)[:, None]
        probabilities = chances.gather(1, chosen).squeeze(1).cpu().numpy()
        # the path, through speech only where pauses are known
        audio = SpeechMask.of(None if quiet is None else quiet[row], positions[row])
        n_head = decoder.blocks[0].cross_attn.n_head
        weights = _weights(sides, heads, n_head, place, len(read[place]), positions[row])
        begins = _path(weights[..., audio.path], n_prompt, len(ids))
        spans = word_spans(vocabulary, ids, split)
        if quiet is not None:
            begins = audio.snap(begins, [first for _, first, _ in spans])
            begins[-1] = len(audio.path)  # what is not quiet belongs to the text, to its end
        times[row] = _times(spans, begins, audio, probabilities)
    return times
