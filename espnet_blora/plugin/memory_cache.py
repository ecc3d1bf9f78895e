"""Memories of a frozen encoder, computed in the first epoch and kept for all others.

Where only the decoder is adapted the encoder makes the same of an utterance in every epoch. What is
kept has the precision of what the decoder multiplies (autocast's, else the model's): with the cache
and without it a training computes the same bits. A memory is found by the samples that it is of, so
that neither equal ids in two sets nor audio made anew under an old id can be taken for another.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zlib
from argparse import Namespace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espnet_blora.adapters.context import processes
from espnet_blora.plugin.training_notes import sample_counts
from espnet_blora.utils import atomic
from espnet_blora.whisper.encoder import memory_lengths

FOLDER = "memories"
"""Beside the experiments: other adapters and seeds on the same base read the same files."""
_VERSION = 1  # raised when the same samples and weights would give another memory
_CHECK = 4  # bytes of the checksum behind a memory in a file
_GB = 1e9

log = logging.getLogger(__name__)


class MemoryCache:
    """Memories by the samples that they are of: in RAM up to a limit, then in files.

    Args:
        encoder: The frozen `WhisperEncoder`.
        ram: Bytes of this process's RAM.
        folder: Where files go; None for none.
    """

    def __init__(self, encoder: Any, ram: float, folder: Path | None) -> None:
        self.encoder = encoder
        self.free = ram
        self.folder = folder
        self.kept: dict[str, Tensor] = {}
        self.stores = True

    def memory_of(self, speech: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the encoder makes of a batch: from the cache if it has all of it.

        A batch of which something is missing is encoded whole: the last bits of a memory may depend
        on its neighbours, and batches are the same in each epoch.

        Args:
            speech: (B, S) waves.
            samples: (B,) of each row.

        Returns:
            memory (B, T', n_state) and its lengths (B,), as of the encoder.
        """
        # In the precision of the decoder's products with it.
        device, wide = speech.device, self.encoder.encoders.conv1.weight.dtype
        autocast = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if autocast else wide
        lengths = memory_lengths(samples.cpu(), self.encoder.pad_to)  # (B,)
        keys = []
        for wave, count in zip(speech.cpu(), samples.tolist(), strict=True):
            digest = hashlib.blake2b(wave[:count].contiguous().numpy().data, digest_size=16)
            keys.append(f"{digest.hexdigest()}.{str(dtype).removeprefix('torch.')}")

        # All from the cache, or all anew.
        rows: list[Tensor] = []
        for key, length in zip(keys, lengths.tolist(), strict=True):
            row = self._find(key, length, dtype)
            if row is None:
                rows = self._encode(speech, samples, lengths, dtype)
                for each, new in zip(keys, rows, strict=True):
                    self._keep(each, new)
                break
            rows.append(row)
        memory = nn.utils.rnn.pad_sequence(rows, batch_first=True)  # (B, T', n_state)
        return memory.to(device).to(wide), lengths.to(device)

    @torch.no_grad()
    def _encode(
        self, speech: Tensor, samples: Tensor, lengths: Tensor, dtype: torch.dtype
    ) -> list[Tensor]:
        """Return the memory (length, n_state) of each row, anew."""
        memory, _ = self.encoder.encode(speech, samples)
        return [row[:n] for row, n in zip(memory.to(dtype), lengths.tolist(), strict=True)]

    def _find(self, key: str, length: int, dtype: torch.dtype) -> Tensor | None:
        """Return a memory (length, n_state) that is kept, else None."""
        if key in self.kept:
            return self.kept[key]
        if self.folder is None:
            return None
        path, size = self._path(key), length * self.encoder.output_size()
        check = _CHECK // dtype.itemsize
        if not path.is_file() or path.stat().st_size != (size + check) * dtype.itemsize:
            return None
        mapped = torch.from_file(str(path), shared=False, size=size + check, dtype=dtype)
        if _bytes(mapped[size:]) != _checksum(_bytes(mapped[:size])):
            return None  # a crash of the machine may leave a file of the right size
        return mapped[:size].view(length, -1)

    def _keep(self, key: str, row: Tensor) -> None:
        """Keep a memory (length, width), in RAM if there is room, else in a file."""
        if key in self.kept or not self.stores:
            return
        row = row.cpu().contiguous()
        if row.nbytes <= self.free:
            self.free -= row.nbytes
            self.kept[key] = row.clone()
        elif self.folder is not None:
            data = _bytes(row.flatten())
            try:
                atomic.write(self._path(key), data + _checksum(data), sync=False)
            except OSError as error:
                self.stores = False
                log.warning("memory_cache: keeps no more, the rest is encoded each time: %s", error)

    def _path(self, key: str) -> Path:
        """Return the file of a memory."""
        assert self.folder is not None
        return self.folder / self._base / key[:2] / key

    @cached_property
    def _base(self) -> str:
        """What the memories depend on beside the samples; init_param loads after the start."""
        encoder = self.encoder
        digest = hashlib.sha256(f"{_VERSION} {torch.__version__}".encode())
        device = next(encoder.parameters()).device.type
        digest.update(f"{device} {encoder.n_mels} {encoder.pad_to}".encode())
        for name, tensor in sorted(encoder.encoders.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor.detach().cpu().contiguous().flatten()))
        return digest.hexdigest()[:16]


def _bytes(flat: Tensor) -> bytes:
    return flat.view(torch.uint8).numpy().tobytes()


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_CHECK, "little")


def attach(args: Namespace, encoder: Any) -> None:
    """Give the frozen encoder of a training a cache, where `encoder_conf` asks for one.

    Args:
        args: Of asr_train.
        encoder: The model's `WhisperEncoder`, whose adapter is on it.

    Raises:
        ValueError: `memory_cache: true`, and it cannot be; says why. With `auto` the log says it.
    """
    wanted = getattr(encoder, "memory_cache", False)
    if not wanted or args.collect_stats:
        return
    try:
        _check_constant(args, encoder)
        encoder.cache = _sized(args, encoder)
    except ValueError as error:
        if wanted != "auto":
            raise ValueError(
                f"encoder_conf.memory_cache: true, but {error}. Remedy: memory_cache: false"
            ) from error
        log.info("memory_cache: auto: none, for %s", error)


def _check_constant(args: Namespace, encoder: Any) -> None:
    """Refuse what makes another memory of an utterance in each epoch."""
    if encoder.specaug is not None:
        raise ValueError("encoder_conf.use_specaug masks other features each time")
    trained = [name for name, p in encoder.named_parameters() if p.requires_grad]
    if trained:
        raise ValueError(
            f"the encoder changes in training: {len(trained)} of its parameters are trained, "
            f"{trained[0]} among them"
        )
    options = vars(args) | (args.preprocessor_conf or {})
    for name in ("rir_scp", "noise_scp", "data_aug_effects"):
        if options.get(name):
            raise ValueError(f"{name} makes other audio of an utterance each time")
    if args.iterator_type != "sequence":
        raise ValueError(f"iterator_type: {args.iterator_type} cuts utterances anew each time")


def _sized(args: Namespace, encoder: Any) -> MemoryCache:
    """Return a cache with room for all utterances; say how large it will be."""
    counts: list[int] = []
    for files in (args.train_shape_file, args.valid_shape_file):
        found = sample_counts(files)
        if found is None:
            raise ValueError(
                "the lengths of the utterances are not known (shape files of stage 10)"
            )
        counts += found.values()
    # Bytes in all, and what is over in RAM.
    positions = int(memory_lengths(torch.tensor(counts), encoder.pad_to).sum())
    size = positions * encoder.output_size() * (2 if args.use_amp and args.ngpu > 0 else 4)
    ram, disk = encoder.memory_cache_ram * _GB, encoder.memory_cache_disk * _GB
    ranks = processes()[1]
    over = max(0.0, size - ranks * ram)
    text = f"{len(counts):,} utterances have memories of {size / _GB:.2f} GB"
    limits = (
        f"{ram / _GB:g} GB of RAM{' per process' if ranks > 1 else ''} (memory_cache_ram) and "
        f"{disk / _GB:g} GB of files (memory_cache_disk)"
    )
    if over > disk:
        raise ValueError(f"{text}, and allowed are {limits}")
    folder = Path(os.path.abspath(args.output_dir)).parent / FOLDER if over else None
    place = f"{over / _GB:.2f} GB of it in {folder}" if over else "all of it in RAM"
    log.info("memory_cache: %s: %s; allowed are %s", text, place, limits)
    return MemoryCache(encoder, ram, folder)
