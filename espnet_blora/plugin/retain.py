"""The yaml's `retain:` block: what the base says of old audio, as a term of the loss.

In every k-th step of the optimiser a batch of old audio, of which the base's own transcripts are
the text, rides in the batch of the new domain. One forward, one backward: gradient accumulation,
several processes, schedules and the adapter's step stay as they are, and ESPnet's own statistics
are of the new domain alone. Which old batch comes when is a function of the seed and of the number
of the step, so that a resumed training has the same ones.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.train.distributed_utils import DistributedOption
from torch import Tensor
from torch.nn.functional import kl_div

from espnet_blora.adapters import METHODS, checks
from espnet_blora.utils.keyed import read_keyed
from espnet_blora.utils.mistakes import did_you_mean

KINDS = ("distillation", "replay")
PREFIX = "retain_"


@dataclass(frozen=True)
class Retain:
    """Options of the block.

    Attributes:
        data: Data directory of old audio (wav.scp, utt2lang) whose `text` is the base's own, as
            `espnet-blora pseudo_label` writes it.
        kind: `distillation`: KL(base || model); `replay`: cross entropy on the base's texts.
        every: Steps of the optimiser between two old batches.
        weight: Of the term, against the loss per token of the new domain.
        batch_size: Utterances of an old batch, over all processes.
    """

    data: str
    kind: str = "distillation"
    every: int = 4
    weight: float = 4.0
    batch_size: int = 8

    @classmethod
    def of(cls, args: Namespace) -> Retain | None:
        """Return the block of a configuration; None where it has none.

        Raises:
            ValueError: An option is unknown or out of range, or the training cannot have the block.
        """
        conf: Mapping[str, Any] = getattr(args, "retain", None) or {}
        if not conf:
            return None
        # Its options.
        known = [field.name for field in fields(cls)]
        for name in conf:
            if name not in known:
                near = did_you_mean(str(name), known)
                raise ValueError(
                    f"retain: {name!r} is unknown; allowed are {', '.join(known)}{near}"
                )
        if not isinstance(conf.get("data"), str):
            raise ValueError(
                f"retain: data is {conf.get('data')!r}; give the directory that espnet-blora "
                "pseudo_label has written from the base and unlabelled old audio"
            )
        found = cls(**conf)
        checks.one_of("retain", "kind", found.kind, allowed=KINDS)
        checks.integer("retain", "every", found.every, low=1)
        checks.number("retain", "weight", found.weight, low=0.0)
        checks.integer("retain", "batch_size", found.batch_size, low=1)
        # The training that it is for.
        method = getattr(args, "adapter", None) if getattr(args, "use_adapter", False) else None
        if method not in METHODS or getattr(args, "decoder", None) != "whisper":
            raise ValueError(
                f"retain: needs an adapter of this plugin's on a Whisper, which computes what its "
                f"base does when it is left out; found adapter: {method}. Remedy: take the block "
                "out, or use_adapter: true with adapter: lora or another"
            )
        if (getattr(args, "model_conf", None) or {}).get("length_normalized_loss") is not True:
            raise ValueError(
                "retain: needs model_conf.length_normalized_loss: true, for its weight is against "
                "a loss per token"
            )
        return found


# ---- the term ----


def distillation(logits: Tensor, base: Tensor) -> Tensor:
    """Return KL(base || model) per token in nats, 0-dim (Li and Hoiem 2016, arXiv 1606.09282).

    Args:
        logits: (N, V) of the model in training.
        base: (N, V) of its base, on the same audio and the same texts; no gradient.
    """
    said, known = logits.float().log_softmax(-1), base.float().log_softmax(-1)
    return kl_div(said, known, reduction="batchmean", log_target=True)


# ---- the batches ----


class OldAudio:
    """Batches of old audio, languages mixed, each a function of its number.

    Args:
        dataset: ESPnet's, of the old audio: `dataset[utterance]`.
        collate: ESPnet's function of a batch.
        utterances: Their ids.
        size: Of a batch, over all processes.
        seed: Of the order, which is another one each time all have been taken.
        share: This process's number, and how many there are.
    """

    def __init__(
        self,
        dataset: Mapping[str, Any],
        collate: Callable,
        utterances: Sequence[str],
        size: int,
        seed: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.dataset, self.collate, self.utterances = dataset, collate, sorted(utterances)
        self.size, self.seed, self.share = min(size, len(utterances)), seed, share
        if self.size < share[1]:
            raise ValueError(
                f"retain: batches of {self.size} utterances for {share[1]} processes; give more "
                "old audio, or a batch_size of at least one for each"
            )

    def ids(self, number: int) -> list[str]:
        """Return the utterances of a batch, of this process."""
        turn, place = divmod(number, len(self.utterances) // self.size)
        order = np.random.default_rng([self.seed, turn]).permutation(len(self.utterances))
        rows = order[place * self.size : (place + 1) * self.size]
        rank, processes = self.share
        return [self.utterances[row] for row in rows[rank::processes]]

    def batch(self, number: int) -> dict[str, Tensor]:
        """Return a batch, as ESPnet's loader makes one."""
        return self.collate([self.dataset[uid] for uid in self.ids(number)])[1]


class RetainedFactory(AbsIterFactory):
    """An iterator factory of ESPnet's, with old audio riding in every k-th batch.

    Args:
        factory: That of the new domain.
        old: The old audio.
        every: Batches between two old ones.
    """

    def __init__(self, factory: Any, old: OldAudio, every: int) -> None:
        self.factory, self.old, self.every = factory, old, every

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> _Riding:
        """Return the batches of an epoch."""
        batches = self.factory.build_iter(epoch, shuffle)
        return _Riding(batches, self.old, self.every, (epoch - 1) * len(batches))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.factory, name)


class _Riding:
    """The batches of one epoch; `first` is the number of the first, over all epochs."""

    def __init__(self, batches: Any, old: OldAudio, every: int, first: int) -> None:
        self.batches, self.old, self.every, self.first = batches, old, every, first

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[list[str], dict[str, Tensor]]]:
        for number, (ids, batch) in enumerate(self.batches, self.first):
            turn, rest = divmod(number, self.every)
            if rest == 0:
                old = self.old.batch(turn)
                batch = {**batch, **{f"{PREFIX}{name}": value for name, value in old.items()}}
            yield ids, batch


def with_old_audio(cls: type, args: Namespace, factory: Any, share: tuple[int, int]) -> Any:
    """Return a training's iterator factory with its `retain:` block, if it has one.

    Args:
        cls: ESPnet's task.
        args: Its arguments.
        factory: Of the new domain.
        share: This process's number, and how many there are.

    Raises:
        ValueError: As of `Retain.of`; the old audio cannot be read or is too little.
    """
    retain = Retain.of(args)
    if retain is None:
        return factory
    folder = Path(retain.data)
    if lacking := [n for n in ("wav.scp", "text", "utt2lang") if not (folder / n).is_file()]:
        raise ValueError(
            f"retain: {folder}/{lacking[0]} is not there; make the directory with espnet-blora "
            "pseudo_label"
        )
    own = Namespace(**vars(args))
    own.train_data_path_and_name_and_type = [
        (str(folder / "wav.scp"), "speech", "sound"),
        (str(folder / "text"), "text", "text"),
    ]
    own.train_shape_file = []
    options = cls.build_iter_options(own, DistributedOption(), "train")  # type: ignore[attr-defined]
    utterances = list(read_keyed(folder / "text"))
    dataset = cls.build_dataset(own, options, set(utterances))  # type: ignore[attr-defined]
    old = OldAudio(dataset, options.collate_fn, utterances, retain.batch_size, args.seed, share)
    return RetainedFactory(factory, old, retain.every * args.accum_grad)


def split(batch: dict[str, Any]) -> dict[str, Tensor]:
    """Take the old audio out of a batch, in place, and return it under ESPnet's names."""
    names = [name for name in batch if name.startswith(PREFIX)]
    return {name.removeprefix(PREFIX): batch.pop(name) for name in names}


def as_stat(term: Tensor) -> Tensor:
    """Return the term as ESPnet gathers statistics over processes: detached, (1,)."""
    return term.detach().to(torch.float32).reshape(1)
