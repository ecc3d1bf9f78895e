"""Checkpoint files: written whole or not at all, repaired before a resume, averaged."""

import logging
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from espnet_blora.adapters import average_states, get_adapter
from espnet_blora.decoding.training_config import for_decoding, read_mapping
from espnet_blora.utils import atomic
from espnet_blora.whisper.safe_torch_load import checked_loader

log = logging.getLogger(__name__)

RESUME_KEYS = ("model", "reporter", "optimizers", "schedulers", "scaler")
"""Parts of ESPnet's checkpoint.pth."""


def atomic_save(obj: Any, path: str | os.PathLike, **kwargs) -> None:
    """Save like torch.save, but so that `path` holds either the old file or the new one, whole.

    Raises:
        OSError: The disk is full or cannot be written; says what is left and what to do.
        Exception: Whatever serialising `obj` raises.
    """
    with atomic.writing(Path(path)) as file:
        torch.save(obj, file, **kwargs)


def repair(output_dir: Path, criteria: Sequence[Sequence[str]]) -> list[str]:
    """Make an experiment folder consistent before a resume.

    ESPnet writes `checkpoint.pth` first, then `{N}epoch.pth`, then the links. A job killed in
    between resumes at epoch N + 1 without epoch N's file, and dies in averaging at the end.

    Args:
        output_dir: Folder with `checkpoint.pth`.
        criteria: `best_model_criterion`, e.g. [("valid", "acc", "max")].

    Returns:
        What was done, one line per change.

    Raises:
        ValueError: `checkpoint.pth` cannot be read.
    """
    from espnet2.torch_utils.safe_torch_load import safe_torch_load
    from espnet2.train.reporter import Reporter

    done = []
    # Files of writers that were killed.
    for leftover in atomic.leftovers(output_dir):
        leftover.unlink()
        done.append(f"removed the unfinished {leftover.name}")

    # The last epoch's file.
    checkpoint = output_dir / "checkpoint.pth"
    if not checkpoint.is_file():
        return done
    states = checked_loader(safe_torch_load, RESUME_KEYS)(checkpoint, map_location="cpu")
    reporter = Reporter()
    reporter.load_state_dict(states["reporter"])
    file = output_dir / f"{reporter.get_epoch()}epoch.pth"
    if not zipfile.is_zipfile(file):  # cheap: it reads only the directory at the file's end
        atomic_save(states["model"], file)
        done.append(f"rebuilt {file.name} from checkpoint.pth")

    # The links to the latest and the best epochs.
    links = {"latest.pth": file.name}
    for phase, key, mode in criteria:
        if reporter.has(phase, key):
            best = reporter.get_best_epoch(phase, key, mode)
            links[f"{phase}.{key}.best.pth"] = f"{best}epoch.pth"
    for name, target in links.items():
        link = output_dir / name
        if not (output_dir / target).is_file():
            log.warning("%s: %s is gone, %s cannot be set", output_dir, target, name)
        elif not link.is_symlink() or os.readlink(link) != target:
            atomic.link(link, target)
            done.append(f"set {name} -> {target}")
    for line in done:
        log.info("%s: %s", output_dir, line)
    return done


def save_adapter_files(model: torch.nn.Module, output_dir: Path, criteria: Sequence) -> None:
    """Write the adapter of each best epoch as a file of its own, beside that epoch's link.

    `valid.acc.best.safetensors` stands beside `valid.acc.best.pth`; `transcribe --adapter`,
    `load_adapter` and `export` take it. A model without an adapter has none.

    Args:
        model: The trained model, which stays as it is: its ranks go on being equal.
        output_dir: Folder with the links.
        criteria: As of `repair`.

    Raises:
        OSError: It cannot be written.
    """
    from espnet2.torch_utils.safe_torch_load import safe_torch_load

    adapter = get_adapter(model)
    if adapter is None:
        return
    adapter.state.trained_on = for_decoding(read_mapping(output_dir / "config.yaml"))
    last: dict[str, Any] = {}
    for phase, key, _ in criteria:
        best = output_dir / f"{phase}.{key}.best.pth"
        if best.is_file():
            state = checked_loader(safe_torch_load)(best, map_location="cpu")
            last = last or deepcopy({k: v for k, v in model.state_dict().items() if k in state})
            # not strict: a checkpoint may hold the adapter alone, which the adapter's hooks check
            model.load_state_dict(state, strict=False)
            adapter.save(best.with_suffix(".safetensors"))
    if last:
        # not strict: what the checkpoints do not hold was not touched
        model.load_state_dict(last, strict=False)


def average(states: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> dict[str, Any]:
    """Average models without an adapter: floating tensors by their mean, the rest from `best`.

    ESPnet's own function adds integers up and turns flags into floats. A tensor that is the same
    in all models stays as it is, bit for bit.

    Raises:
        ValueError: A tensor is not in all models.
    """
    mean = dict(best)
    for key, value in best.items():
        if not torch.is_tensor(value) or not value.is_floating_point():
            continue
        values = [state[key] for state in states if key in state]
        if len(values) < len(states):
            raise ValueError(f"cannot average: {key} is not in all {len(states)} models")
        if all(torch.equal(value, other) for other in values):
            continue
        # Half precision is summed in single precision, in the order of the epochs.
        wide = torch.promote_types(value.dtype, torch.float32)
        total = sum(other.to(wide) for other in values)
        mean[key] = (total / len(values)).to(value.dtype)
    return mean


def average_nbest_models(
    output_dir: Path,
    reporter: Any,
    best_model_criterion: Sequence[Sequence[str]],
    nbest: int | Sequence[int],
    suffix: str | None = None,
    use_deepspeed: bool = False,
) -> None:
    """Write `{phase}.{key}.ave_{n}best.pth` and `.ave.pth`, as ESPnet names them.

    With an adapter only posterior means are averaged and everything else comes from the best
    epoch (`adapters.average_states`): the mean of posterior scales means nothing.

    Args:
        output_dir: Folder with `{N}epoch.pth`.
        reporter: ESPnet's reporter, which ranks the epochs.
        best_model_criterion: (phase, key, "min" or "max") each.
        nbest: How many epochs, a number or several.
        suffix: Part of the name before `pth` (ESPnet's `till{N}epoch`).
        use_deepspeed: Refused.

    Raises:
        ValueError: DeepSpeed checkpoints are asked for; or the models do not match each other.
        FileNotFoundError: None of the epochs to be averaged has a file.
    """
    from espnet2.torch_utils.safe_torch_load import safe_torch_load

    if use_deepspeed:
        raise ValueError("averaging of DeepSpeed checkpoints is not supported; use_deepspeed false")
    output_dir = Path(output_dir)
    counts = sorted({n for n in ([nbest] if isinstance(nbest, int) else nbest) if n > 0}) or [1]
    ending = "pth" if suffix is None else f"{suffix}.pth"
    load = checked_loader(safe_torch_load)
    states: dict[int, dict] = {}  # every epoch is read once, whatever it is averaged for
    for phase, key, mode in best_model_criterion:
        if not reporter.has(phase, key):
            continue
        epochs = _ranked(output_dir, reporter, (phase, key, mode), max(counts))
        for n in [n for n in counts if n <= len(epochs)] or [1]:
            best = epochs[:n]
            path = output_dir / f"{phase}.{key}.ave_{n}best.{ending}"
            if n == 1:
                atomic.link(path, f"{best[0]}epoch.pth")
            else:
                for epoch in best:
                    if epoch not in states:
                        states[epoch] = load(output_dir / f"{epoch}epoch.pth", map_location="cpu")
                log.info("averaging epochs %s by %s.%s into %s", best, phase, key, path)
                _write_mean([states[epoch] for epoch in best], path)
            # The last and largest n is what `.ave.pth` stands for.
            atomic.link(output_dir / f"{phase}.{key}.ave.{ending}", path.name)


def _ranked(output_dir: Path, reporter: Any, criterion: Sequence[str], count: int) -> list[int]:
    """Return the `count` best epochs that have a file, best first.

    Raises:
        FileNotFoundError: None of them has a file.
    """
    ranked = [epoch for epoch, _ in reporter.sort_epochs_and_values(*criterion)][:count]
    lost = [epoch for epoch in ranked if not (output_dir / f"{epoch}epoch.pth").is_file()]
    if len(lost) == len(ranked):
        raise FileNotFoundError(f"{output_dir}: none of the epochs {lost} has its epoch.pth")
    if lost:
        log.warning("%s: no file of epochs %s; averaged without", output_dir, lost)
    return [epoch for epoch in ranked if epoch not in lost]


def _write_mean(states: list[dict], path: Path) -> None:
    """Write the mean of models, the best first, as its method's kind demands."""
    with_adapter = any(name.startswith("adapter_state.") for name in states[0])
    mean: Callable[..., dict] = average_states if with_adapter else average
    if path.is_symlink():  # of an earlier averaging over one epoch: its target is not ours to write
        path.unlink()
    atomic_save(mean(states, states[0]), path)
