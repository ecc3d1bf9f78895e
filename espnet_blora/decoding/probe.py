"""Linear probes: how well each layer's states, averaged over time, tell languages apart.

As in DAMA (arXiv 2602.01008, appendix A): the model is frozen, the states behind each layer are
averaged over the positions of an utterance, and one linear layer per depth learns to tell the
languages apart. How well it does is how much of the language can be read off at that depth.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from whisper.model import AudioEncoder, TextDecoder

from espnet_blora.decoding.batch import pad
from espnet_blora.decoding.recogniser import Recogniser
from espnet_blora.whisper.attention import padding_mask
from espnet_blora.whisper.decoder import states
from espnet_blora.whisper.encoder import encode

SIDES = ("encoder", "decoder")


@contextmanager
def watched(half: AudioEncoder | TextDecoder, last: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the residual stream behind each of `half.blocks`, (B, T, n_state) each, in order.

    It is what the next block's first norm reads; `last`: the norm behind the last block.
    """
    found: list[Tensor] = []
    readers = [block.attn_ln for block in half.blocks[1:]] + [last]
    handles = [
        reader.register_forward_pre_hook(lambda _, args: found.append(args[0].float()))
        for reader in readers
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def mean_over(layers: Sequence[Tensor], lengths: Tensor) -> Tensor:
    """Average layers of (B, T, d) over the first `lengths` (B,) positions: (B, layers, d)."""
    stacked = torch.stack(list(layers), dim=1)
    mask = padding_mask(lengths.to(stacked.device), stacked.shape[2])
    if mask is None:
        return stacked.mean(2)
    kept = mask[:, None, :, None].to(stacked)
    return (stacked * kept).sum(2) / kept.sum(2)


@torch.no_grad()
def layer_means(
    recogniser: Recogniser,
    waves: Mapping[str, Tensor],
    read: Mapping[str, Sequence[int]],
    sides: Sequence[str] = SIDES,
    batch_size: int = 16,
) -> dict[str, Tensor]:
    """Return {side: (utterances, layers, n_state)} fp32 on the CPU, in order of `waves`.

    Args:
        recogniser: the opened model; the encoder's positions are frames of 20 ms, the decoder's
            the tokens that it reads. Where it pads to 30 s, the mean is over the whole window.
        waves: utterance id -> (S,) samples at 16 kHz.
        read: utterance id -> ids that the decoder reads, one or more.
        sides: which halves.
        batch_size: utterances computed together.

    Raises:
        ValueError: a wave longer than 30 s, more ids than the decoder has positions.
    """
    encoder, decoder, device = recogniser.encoder, recogniser.decoder, recogniser.device
    order = sorted(waves, key=lambda uid: (len(waves[uid]), uid))
    found: dict[str, dict[str, Tensor]] = {side: {} for side in sides}
    for first in range(0, len(order), batch_size):
        ids = order[first : first + batch_size]
        wave, lengths = pad([waves[uid] for uid in ids])
        with watched(encoder, encoder.ln_post) as layers:
            memory, memory_lengths = encode(
                encoder, wave.to(device), lengths.to(device), recogniser.pad_to
            )
        means = {"encoder": mean_over(layers, memory_lengths)}
        if "decoder" in sides:
            tokens, counts = pad([torch.tensor(list(read[uid])) for uid in ids])
            with watched(decoder, decoder.ln) as layers:
                states(decoder, tokens.to(device), memory, memory_lengths)
            means["decoder"] = mean_over(layers, counts)
        for side in sides:
            found[side].update(zip(ids, means[side].cpu(), strict=True))
    return {side: torch.stack([found[side][uid] for uid in waves]) for side in sides}


@dataclass(frozen=True)
class Probe:
    """How a probe is trained; the defaults are the paper's.

    Attributes:
        lr: Of AdamW.
        batch_size: Utterances per step.
        epochs: Passes; the one with the lowest loss on held-out utterances counts.
        held_out: Their share of each language.
    """

    lr: float = 1e-3
    batch_size: int = 256
    epochs: int = 5
    held_out: float = 0.2

    def __post_init__(self) -> None:
        """Raise ValueError for what cannot be."""
        for name in ("lr", "batch_size", "epochs"):
            if not getattr(self, name) > 0:
                raise ValueError(f"probe: {name} is {getattr(self, name)}; allowed: above 0")
        if not 0 < self.held_out < 1:
            raise ValueError(f"probe: held_out is {self.held_out}; allowed: between 0 and 1")

    def steps(self, utterances: int) -> int:
        """Return how many steps a probe takes on so many utterances, about."""
        return self.epochs * -(-round(utterances * (1 - self.held_out)) // self.batch_size)


def divide(labels: Mapping[str, str], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Divide utterances into (trained on, held out), `share` of each label, at least one.

    Which ones depends on ids and seed alone, by SHA-256; no order matters.

    Raises:
        ValueError: fewer than two labels, or one with a single utterance.
    """
    groups: dict[str, list[str]] = {}
    for uid in labels:
        groups.setdefault(labels[uid], []).append(uid)
    lonely = sorted(label for label, ids in groups.items() if len(ids) < 2)
    if len(groups) < 2 or lonely:
        counts = ", ".join(f"{label} {len(groups[label])}" for label in sorted(groups))
        raise ValueError(
            f"utterances to train on: {counts or 'none'}; needed: two languages or more, with two "
            "utterances or more each"
        )
    kept, held = [], []
    for label in sorted(groups):
        ids = sorted(
            groups[label], key=lambda uid: hashlib.sha256(f"{seed} {uid}".encode()).digest()
        )
        cut = min(max(1, round(share * len(ids))), len(ids) - 1)
        held += ids[:cut]
        kept += ids[cut:]
    return sorted(kept), sorted(held)


def fit(
    kept: tuple[Tensor, Tensor],
    held: tuple[Tensor, Tensor],
    classes: int,
    how: Probe,
    generator: torch.Generator,
) -> nn.Linear:
    """Train a linear probe by cross entropy; return it as it was at its best held-out epoch.

    Args:
        kept: features (N, d) and labels (N,) to train on.
        held: the same of held-out utterances.
        classes: number of labels.
        how: options.
        generator: of its start and of the order of utterances.
    """
    features, labels = kept
    probe = nn.Linear(features.shape[1], classes)
    bound = features.shape[1] ** -0.5
    with torch.no_grad():
        for parameter in probe.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    optimiser = torch.optim.AdamW(probe.parameters(), lr=how.lr)
    best, state = float("inf"), copy.deepcopy(probe.state_dict())
    for _ in range(how.epochs):
        for rows in torch.randperm(len(labels), generator=generator).split(how.batch_size):
            optimiser.zero_grad()
            nn.functional.cross_entropy(probe(features[rows]), labels[rows]).backward()
            optimiser.step()
        with torch.no_grad():
            loss = float(nn.functional.cross_entropy(probe(held[0]), held[1]))
        if loss < best:
            best, state = loss, copy.deepcopy(probe.state_dict())
    probe.load_state_dict(state)
    return probe


def accuracies(
    train: Mapping[str, Tensor],
    test: Mapping[str, Tensor],
    labels: Mapping[str, str],
    how: Probe,
    seeds: Sequence[int],
    done: Callable[[int], None] = lambda seed: None,
) -> list[list[float]]:
    """Return [layer][seed]: the share of test utterances whose label a probe of that layer finds.

    Args:
        train: utterance id -> (layers, d).
        test: the same; no id of `train`.
        labels: utterance id -> label, of all.
        how: options.
        seeds: each divides `train` anew, and starts the probes anew.
        done: called after each seed.

    Raises:
        ValueError: see `divide`; a label of `test` that `train` lacks, an id in both, no test
            utterance.
    """
    both = sorted(train.keys() & test.keys())
    if both:
        raise ValueError(f"{len(both)} utterances are trained on and tested, first {both[0]}")
    names = sorted({labels[uid] for uid in train})
    new = sorted({labels[uid] for uid in test} - set(names))
    if new or not test:
        raise ValueError(
            f"languages to test: {', '.join(new) or 'none'}; trained on are {', '.join(names)}: "
            "test the same languages"
        )

    def gathered(vectors: Mapping[str, Tensor], ids: Sequence[str]) -> tuple[Tensor, Tensor]:
        numbers = torch.tensor([names.index(labels[uid]) for uid in ids])
        return torch.stack([vectors[uid] for uid in ids]), numbers

    features, expected = gathered(test, sorted(test))
    shares: list[list[float]] = [[] for _ in range(features.shape[1])]
    for seed in seeds:
        sides = divide({uid: labels[uid] for uid in train}, how.held_out, seed)
        (kept, kept_labels), (held, held_labels) = (gathered(train, ids) for ids in sides)
        for layer, row in enumerate(shares):
            probe = fit(
                (kept[:, layer], kept_labels),
                (held[:, layer], held_labels),
                len(names),
                how,
                torch.Generator().manual_seed(1000 * seed + layer),
            )
            with torch.no_grad():
                hits = probe(features[:, layer]).argmax(-1) == expected
            row.append(float(hits.float().mean()))
        done(seed)
    return shares
