"""Checkpoint files: written whole or not at all, read with one clear error, repaired, averaged."""

import logging
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from espnet_blora.utils import atomic
from espnet_blora.whisper.safe_torch_load import checked_loader

log = logging.getLogger(__name__)

RESUME_KEYS = ("model", "reporter", "optimizers", "schedulers", "scaler")


def atomic_save(obj: Any, path: str | os.PathLike, **kwargs) -> None:
    """Save like torch.save, but so that `path` holds either the old file or the new one, whole.

    Raises:
        OSError: The disk is full or cannot be written; says what is left and what to do.
        Exception: Whatever serialising `obj` raises.
    """
    with atomic.writing(path) as file:
        torch.save(obj, file, **kwargs)


def is_whole(path: Path) -> bool:
    """Tell whether `path` is a whole torch archive: cheap, reads only the directory at its end."""
    return path.is_file() and zipfile.is_zipfile(path)


def repair(output_dir: Path, criteria: Sequence[Sequence[str]]) -> list[str]:
    """Make an experiment folder consistent before a resume; returns what was done.

    ESPnet writes `checkpoint.pth` first, then `{N}epoch.pth`, then the links. A job killed in
    between resumes at epoch N + 1 without epoch N's file, and dies in averaging at the end.

    Args:
        output_dir: Folder with `checkpoint.pth`.
        criteria: `best_model_criterion`, e.g. [("valid", "acc", "max")].

    Raises:
        ValueError: `checkpoint.pth` cannot be read.
    """
    from espnet2.torch_utils.safe_torch_load import safe_torch_load
    from espnet2.train.reporter import Reporter

    done = []
    for leftover in atomic.leftovers(output_dir):
        leftover.unlink()
        done.append(f"removed the unfinished {leftover.name}")
    checkpoint = output_dir / "checkpoint.pth"
    if not checkpoint.is_file():
        return done
    states = checked_loader(safe_torch_load, RESUME_KEYS)(checkpoint, map_location="cpu")
    reporter = Reporter()
    reporter.load_state_dict(states["reporter"])
    epoch = reporter.get_epoch()
    file = output_dir / f"{epoch}epoch.pth"
    if not is_whole(file):
        atomic_save(states["model"], file)
        done.append(f"rebuilt {file.name} from checkpoint.pth")
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


def average(states: list[dict], best: dict) -> dict:
    """Average models without an adapter: floating tensors by their mean, the rest from `best`.

    ESPnet's own function adds integers up and turns flags into floats. A tensor that is the same
    in all models stays as it is, bit for bit.

    Raises:
        ValueError: A tensor is not in all models.
    """
    out = dict(best)
    for key, value in best.items():
        values = [state[key] for state in states if key in state]
        if not torch.is_tensor(value) or not value.is_floating_point():
            continue
        if len(values) < len(states):
            raise ValueError(f"cannot average: {key} is not in all {len(states)} models")
        if all(torch.equal(value, other) for other in values):
            continue
        wide = torch.promote_types(value.dtype, torch.float32)
        total = values[0].to(wide)
        for other in values[1:]:
            total = total + other.to(wide)
        out[key] = (total / len(values)).to(value.dtype)
    return out


def average_nbest_models(
    output_dir: Path,
    reporter,
    best_model_criterion: Sequence[Sequence[str]],
    nbest,
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

    from espnet_blora.adapters import average_states

    if use_deepspeed:
        raise ValueError("averaging of DeepSpeed checkpoints is not supported; use_deepspeed false")
    output_dir = Path(output_dir)
    wanted = sorted({n for n in ([nbest] if isinstance(nbest, int) else nbest) if n > 0}) or [1]
    tail = "" if suffix is None else f"{suffix}."
    load = checked_loader(safe_torch_load)
    cache: dict[int, dict] = {}
    for phase, key, mode in best_model_criterion:
        if not reporter.has(phase, key):
            continue
        ranked = [epoch for epoch, _ in reporter.sort_epochs_and_values(phase, key, mode)]
        ranked = ranked[: max(wanted)]
        lost = [epoch for epoch in ranked if not (output_dir / f"{epoch}epoch.pth").is_file()]
        if lost:
            log.warning("%s: no file of epochs %s; averaged without", output_dir, lost)
        ranked = [epoch for epoch in ranked if epoch not in lost]
        if not ranked:
            raise FileNotFoundError(f"{output_dir}: none of the epochs {lost} has its epoch.pth")
        for n in [n for n in wanted if n <= len(ranked)] or [1]:
            op = output_dir / f"{phase}.{key}.ave_{n}best.{tail}pth"
            if n == 1:
                atomic.link(op, f"{ranked[0]}epoch.pth")
            else:
                for epoch in ranked[:n]:
                    if epoch not in cache:
                        cache[epoch] = load(output_dir / f"{epoch}epoch.pth", map_location="cpu")
                states = [cache[epoch] for epoch in ranked[:n]]
                with_adapter = any(name.startswith("adapter_state.") for name in states[0])
                averaged = (average_states if with_adapter else average)(states, states[0])
                log.info("averaging epochs %s by %s.%s into %s", ranked[:n], phase, key, op)
                if op.is_symlink():
                    op.unlink()
                atomic_save(averaged, op)
            atomic.link(output_dir / f"{phase}.{key}.ave.{tail}pth", op.name)
