"""Decode many utterances: batches of about one length, so that little is padded and waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from espnet_blora.decoding.beam import Hypothesis, SearchOptions
from espnet_blora.decoding.search import Filter, search
from espnet_blora.whisper.encoder import encode

if TYPE_CHECKING:
    from espnet_blora.decoding.recogniser import Recogniser


def pad(waves: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Waves of unequal length -> (B, S) zero-padded and their lengths (B,)."""
    lengths = torch.tensor([len(wave) for wave in waves])
    return torch.nn.utils.rnn.pad_sequence(list(waves), batch_first=True), lengths


def by_length(
    waves: Mapping[str, Tensor], prompts: Mapping[str, Sequence[int]], batch_size: int
) -> Iterator[list[str]]:
    """Yield batches of ids: prompts of one length, waves of about one length, longest first.

    The longest first, so that memory that does not suffice is known at once.

    Raises:
        ValueError: a batch size below 1, or an utterance without prompt.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; allowed: 1 or more")
    missing = sorted(set(waves) - set(prompts))
    if missing:
        raise ValueError(f"no prompt (language) for {len(missing)} utterances, first {missing[0]}")
    groups: dict[int, list[str]] = {}
    for uid in sorted(waves, key=lambda uid: (-len(waves[uid]), uid)):
        groups.setdefault(len(prompts[uid]), []).append(uid)
    for ids in groups.values():
        for first in range(0, len(ids), batch_size):
            yield ids[first : first + batch_size]


@torch.inference_mode()
def encode_batch(
    recogniser: Recogniser, waves: Sequence[Tensor], names: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Waves of at most 30 s, each (S_i,) -> memory (B, T', n_state) and lengths (B,).

    Raises:
        ValueError: a wave over 30 s; an output that is not finite, naming the utterance.
    """
    wave, lengths = pad(waves)
    device = recogniser.device
    memory, lengths = encode(
        recogniser.encoder, wave.to(device), lengths.to(device), recogniser.pad_to
    )
    finite = torch.isfinite(memory).flatten(1).all(1).tolist()
    bad = [name for name, good in zip(names, finite, strict=True) if not good]
    if bad:
        raise ValueError(
            f"utterance {bad[0]}: the encoder's output is not finite; check the audio and the "
            "checkpoint, and use float32"
        )
    return memory, lengths


def _decode_batch(
    recogniser: Recogniser,
    waves: Mapping[str, Tensor],
    prompts: Mapping[str, Sequence[int]],
    ids: Sequence[str],
    options: SearchOptions | None,
    filters: Sequence[Filter],
) -> list[list[Hypothesis]]:
    """Search one batch; a function of its own, so that nothing of a failed one stays in memory."""
    memory, lengths = encode_batch(recogniser, [waves[uid] for uid in ids], ids)
    asked = [prompts[uid] for uid in ids]
    return search(
        recogniser.decoder, memory, lengths, asked, recogniser.layout.eot, options, filters
    )


def decode(
    recogniser: Recogniser,
    waves: Mapping[str, Tensor],
    prompts: Mapping[str, Sequence[int]],
    options: SearchOptions | None = None,
    filters: Sequence[Filter] = (),
    batch_size: int = 16,
    on_done: Callable[[str, list[Hypothesis]], None] | None = None,
) -> dict[str, list[Hypothesis]]:
    """Find the texts of a set; neither order nor batch size changes them.

    A batch that does not fit the accelerator's memory is halved and tried again.

    Args:
        recogniser: the opened model.
        waves: utterance id -> (S,) samples at 16 kHz, fp32, at most 30 s.
        prompts: utterance id -> prompt ids.
        options: how to search.
        filters: what may not be said; see `espnet_blora.decoding.filters`.
        batch_size: utterances at once.
        on_done: called with id and hypotheses as soon as a batch is done.

    Returns:
        Utterance id -> hypotheses, best first, in the order of `waves`.

    Raises:
        ValueError: an utterance over 30 s or without prompt; a model whose output is no number.
        RuntimeError: an utterance that does not fit the memory even alone.
    """
    found: dict[str, list[Hypothesis]] = {}
    waiting = list(by_length(waves, prompts, batch_size))[::-1]
    while waiting:
        ids = waiting.pop()
        try:
            texts = _decode_batch(recogniser, waves, prompts, ids, options, filters)
        except torch.OutOfMemoryError as error:
            if len(ids) == 1:
                raise RuntimeError(
                    f"utterance {ids[0]} ({len(waves[ids[0]])} samples) does not fit the memory "
                    f"of {recogniser.device} even alone; lower beam_size or decode on the CPU"
                ) from error
            half = (len(ids) + 1) // 2
            waiting += [ids[half:], ids[:half]]
            continue
        except ValueError as error:
            error.add_note(f"while decoding the utterances {', '.join(ids)}")
            raise
        for uid, hypotheses in zip(ids, texts, strict=True):
            found[uid] = hypotheses
            if on_done is not None:
                on_done(uid, hypotheses)
    return {uid: found[uid] for uid in waves}
