"""Guards of an experiment folder: no resume under another configuration, no second run at once."""

import errno
import fcntl
import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from espnet_blora.decoding.training_config import read_mapping
from espnet_blora.utils import atomic

log = logging.getLogger(__name__)

HARMLESS = frozenset(
    """
    max_epoch ngpu num_workers log_interval log_level output_dir config print_config required
    dry_run resume distributed local_rank multiprocessing_distributed unused_parameters
    gradient_as_bucket_view use_tensorboard use_matplotlib use_wandb num_att_plot
    create_graph_in_tensorboard keep_nbest_models nbest_averaging_interval max_cache_size
    max_cache_fd detect_anomaly write_collected_feats collect_stats version
    training_data
    """.split()
)
"""Keys that may change between two runs of one experiment without changing what it computes."""
_HARMLESS_PREFIXES = ("dist_", "wandb_")
_HARMLESS_NESTED = frozenset(
    "activation_checkpointing memory_cache memory_cache_ram memory_cache_disk narrow_base".split()
)

PREVIOUS = ".config.yaml.previous"
"""Name of the copy of config.yaml that is kept while ESPnet rewrites it."""

_stored: ContextVar[dict | None] = ContextVar("stored_config", default=None)


def plain(value: Any) -> Any:
    """Return `value` as a yaml file would give it back: tuples as lists, paths as strings."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def read_config(path: Path) -> dict:
    """Read a config.yaml that ESPnet wrote.

    Raises:
        ValueError: It is not a yaml mapping (for example cut short).
    """
    try:
        return read_mapping(path)
    except ValueError as error:
        raise ValueError(f"{error}. Remedy: {_start_anew(path)}") from error


def _start_anew(path: Path) -> str:
    return f"train in another folder (--asr_exp), or move {path.parent} away and start anew."


def differences(old: Mapping, new: Mapping, prefix: str = "") -> list[str]:
    """List the keys whose values differ, nested ones as `a.b`, each as `key: old -> new`."""
    lines = []
    for key in sorted({*old, *new}, key=str):
        # Only top-level keys can be harmless.
        if not prefix and (key in HARMLESS or str(key).startswith(_HARMLESS_PREFIXES)):
            continue
        before, after = old.get(key), new.get(key)
        if before == after and (key in old) == (key in new):
            continue
        name = f"{prefix}{key}"
        if key in _HARMLESS_NESTED or (key == "whisper_model" and _moved(before)):
            continue
        if key == "old_data" and not (before and after):
            continue  # of an older release, or the file is gone, which training itself refuses
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{name}.")
        else:
            lines.append(f"{name}: {_show(old, key)} -> {_show(new, key)}")
    return lines


def _moved(file: Any) -> bool:
    """Tell whether a Whisper file is no longer where it was.

    The adapter's own check, which compares the weights themselves, then decides whether the new
    one is the same.
    """
    return isinstance(file, str) and os.sep in file and not os.path.exists(file)


def _show(config: Mapping, key: str) -> str:
    if key not in config:
        return "(absent)"
    text = repr(config[key])
    size = f" ... ({len(config[key])} entries)" if isinstance(config[key], (list, dict)) else " ..."
    return text if len(text) <= 80 else text[:60] + size


@contextmanager
def stored_config(output_dir: Path, resume: bool) -> Iterator[None]:
    """Remember, before ESPnet rewrites it, the config.yaml that a resume must agree with.

    Every rank reads it before the process group forms, hence before rank 0 can rewrite it.

    Raises:
        ValueError: config.yaml is damaged, and no sound copy is left.
    """
    path, copy = output_dir / "config.yaml", output_dir / PREVIOUS
    resumes = resume and (output_dir / "checkpoint.pth").is_file()
    source = copy if copy.is_file() and not _whole(path, copy) else path
    token = _stored.set(read_config(source) if resumes and source.is_file() else None)
    try:
        yield
    finally:
        _stored.reset(token)


@contextmanager
def kept_config(output_dir: Path) -> Iterator[None]:
    """Keep a copy of config.yaml while ESPnet rewrites it, and put it back if it was cut short.

    ESPnet writes in place: a job killed there, or a full disk, would leave a part of config.yaml
    beside good weights.
    """
    recover_config(output_dir)
    path = output_dir / "config.yaml"
    if path.is_file():
        atomic.write(output_dir / PREVIOUS, path.read_bytes())
    try:
        yield
    finally:
        recover_config(output_dir)


def recover_config(output_dir: Path) -> None:
    """Put the kept copy back where config.yaml was cut short, and drop it where it was not."""
    path, copy = output_dir / "config.yaml", output_dir / PREVIOUS
    if not copy.is_file():
        return
    if _whole(path, copy):
        copy.unlink()
    else:
        os.replace(copy, path)
        log.warning("%s had been cut short; its last whole content was put back", path)


def _whole(path: Path, copy: Path) -> bool:
    """Tell whether config.yaml has all the keys that its copy has, and its last line whole."""
    if not path.is_file():
        return False
    text = path.read_bytes()
    return text.endswith(b"\n") and _keys(text) >= _keys(copy.read_bytes())


def _keys(text: bytes) -> set[bytes]:
    """Return the top-level keys of a yaml that ESPnet wrote, without parsing its long lists."""
    return set(re.findall(rb"^(\w+):", text, re.MULTILINE))


def refuse_changed_config(config: Mapping, output_dir: Path) -> None:
    """Compare the configuration of this run with the stored one.

    ESPnet itself would write the new config.yaml beside the old weights and return 0.

    Raises:
        ValueError: They differ in more than `HARMLESS` keys; config.yaml is left untouched.
    """
    old = _stored.get()
    if old is None:
        return
    changed = differences(old, plain(config))
    if changed:
        count = f"{len(changed)} {'keys differ' if len(changed) > 1 else 'key differs'}"
        raise ValueError(
            f"{output_dir} was trained with another configuration; {count} (stored -> now):\n  "
            + "\n  ".join(changed)
            + f"\nResuming would give a model that matches neither. config.yaml was left as it is. "
            f"Remedy: restore these values (only max_epoch and the like may change), or "
            f"{_start_anew(output_dir / 'config.yaml')}"
        )


@contextmanager
def only_run(output_dir: Path) -> Iterator[None]:
    """Hold the folder of a training or a decoding job for one run.

    The lock ends with the process, however it ends.

    Raises:
        ValueError: Another run holds it.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    with (output_dir / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown process"
            raise ValueError(
                f"{output_dir} is in use by another run ({holder}). Remedy: wait for it, stop it, "
                "or use another folder (--asr_exp to train, --inference_tag to decode)."
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            log.warning("%s: this file system has no locks; start no second run", output_dir)
        file.truncate(0)
        file.write(f"host {socket.gethostname()}, process {os.getpid()}\n")
        file.flush()
        yield
