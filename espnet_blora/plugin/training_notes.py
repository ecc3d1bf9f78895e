"""What is written down when a training starts: its data, new and old; a warm-up; shares."""

import hashlib
import logging
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from whisper.audio import SAMPLE_RATE

from espnet_blora.plugin.data_checks import SPEECH
from espnet_blora.utils.keyed import read_keyed

log = logging.getLogger(__name__)

PER_UTTERANCES = ("unsorted", "sorted", "folded")
"""Values of `batch_type` for which `batch_size` counts (`folded`: at most so many utterances)."""


def sample_counts(shape_files: Iterable[str]) -> dict[str, int] | None:
    """Return the samples of each utterance, as stage 10 has counted them.

    Args:
        shape_files: ESPnet's, of which the first is of the speech.

    Returns:
        None where there are none, or they are of something else than waves.
    """
    shapes = next(map(Path, shape_files), None)
    if shapes is None or not shapes.is_file():
        return None
    # lines of 'id samples', or 'id frames,width' of something else than waves
    lengths = read_keyed(shapes)
    if not lengths or any("," in length for length in lengths.values()):
        return None
    return {utterance: int(length) for utterance, length in lengths.items()}


def describe_data(options: Namespace) -> dict[str, Any] | None:
    """Return what transcribe has to know of the training's utterances, for config.yaml.

    Their lengths in samples are those that stage 10 has counted, of waves at 16 kHz; their
    languages are in the `utt2lang` beside the list of audio.

    Args:
        options: Of asr_train.

    Returns:
        `seconds`, with the fields of `espnet_blora.decoding.training_config.TrainedLengths`, and
        `languages`, utterances by language code; None where the lengths are not known.
    """
    lengths = sample_counts(options.train_shape_file)
    if lengths is None:
        return None
    seconds = np.array(list(lengths.values())) / SAMPLE_RATE
    median, most, longest = np.quantile(seconds, [0.5, 0.95, 1.0]).round(3).tolist()
    # languages
    lists = (path for path, name, _ in options.train_data_path_and_name_and_type if name == SPEECH)
    source = Path(next(lists, "")).parent / "utt2lang"
    found = read_keyed(source) if source.is_file() else {}
    languages = Counter(found[uid] for uid in lengths if uid in found)
    return {
        "seconds": {"median": median, "most": most, "longest": longest},
        "languages": dict(languages.most_common()),
    }


def describe_old_data(options: Namespace) -> dict[str, str]:
    """Return option -> checksum of the files of old data that a configuration names.

    In config.yaml, where a resume finds that another file stands under the same name.

    Args:
        options: Of asr_train, with `adapter_conf` and `retain`.
    """
    conf, retain = (getattr(options, name, None) or {} for name in ("adapter_conf", "retain"))
    paths = {option: conf.get(option) for option in ("fisher_file", "keep_file")}
    if isinstance(folder := retain.get("data"), str):
        paths |= {f"retain_{name}": f"{folder}/{name}" for name in ("text", "wav.scp")}
    found = {}
    for option, path in paths.items():
        if isinstance(path, str) and Path(path).is_file():
            with open(path, "rb") as file:
                found[option] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def warn_of_long_warmup(train_iter_factory: Any, options: Any, schedulers: Iterable[Any]) -> None:
    """Warn where the learning rate does not get to its peak within the whole training.

    Args:
        train_iter_factory: ESPnet's; one that knows its batches has a sampler.
        options: Of the trainer, with `max_epoch` and `accum_grad`.
        schedulers: Of the optimisers.
    """
    sampler = getattr(train_iter_factory, "sampler", None)
    if sampler is None:
        return
    batches = train_iter_factory.num_iters_per_epoch or len(sampler)
    updates = options.max_epoch * (batches // options.accum_grad)
    for scheduler in schedulers:
        steps = getattr(scheduler, "warmup_steps", 0)
        if steps > updates:
            log.warning(
                "scheduler_conf.warmup_steps: %d, but the whole training has %d updates (max_epoch "
                "x batches / accum_grad): the learning rate never reaches optim_conf.lr. Lower "
                "warmup_steps (a tenth of the updates is %d), or train for more epochs",
                steps,
                updates,
                max(1, updates // 10),
            )


def say_shares(batch_type: str, batch_size: int, processes: int) -> None:
    """Log what part of a batch each of several processes (one per GPU) gets."""
    if processes < 2 or batch_type not in PER_UTTERANCES:
        return
    least, more = divmod(batch_size, processes)
    log.info(
        "batch_size: %d is shared out over %d processes: %s utterances of a batch for each; "
        "batch_size: %d gives each as many as one GPU had",
        batch_size,
        processes,
        f"{least} to {least + 1}" if more else least,
        batch_size * processes,
    )
