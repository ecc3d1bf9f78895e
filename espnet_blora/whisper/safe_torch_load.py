"""Safe loading of torch archives (.pth, .pt): whole, undamaged, of tensors alone."""

from __future__ import annotations

import errno
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_DOS_FOLDER = 0x10  # in a zip entry's external attributes


def damaged_entry(path: str | os.PathLike) -> str | None:
    """Name the first entry of a zip archive whose bytes are not those of its checksum (CRC-32).

    torch.load does not compare them: a file whose size is right silently gives wrong weights. Nor
    does it notice an entry that is marked as a folder (it leaves the tensor as the memory happens
    to be), and zipfile loses entries to a comment that nobody wrote. None when all is well, or when
    the file is not an archive (its reader then says so).
    """
    try:
        if not zipfile.is_zipfile(path):
            return None
        with zipfile.ZipFile(path) as archive:
            odd = [entry for entry in archive.infolist() if _folder(entry) or entry.comment]
            return f"its directory (at {odd[0].filename})" if odd else archive.testzip()
    except Exception as error:  # a damaged directory makes zipfile raise almost anything
        if isinstance(error, OSError | MemoryError) and getattr(error, "errno", 0) != errno.EINVAL:
            raise  # these say themselves what and where
        return f"its directory ({error})"


def _folder(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry is marked as a folder; its name says it of one that is."""
    return bool(entry.external_attr & _DOS_FOLDER) and not entry.is_dir()


def checked_loader(load: Callable, keys: Sequence[str] = ()) -> Callable:
    """Wrap a loader of state dicts: an unreadable or foreign file is one clear ValueError.

    Args:
        load: What reads, called as `torch.load` and ESPnet's `safe_torch_load` are.
        keys: Entries that the file must have (those of `checkpoint.pth` for a resume).
    """

    def read(path, map_location=None, **kwargs):
        if not Path(path).is_file():
            raise FileNotFoundError(f"no checkpoint file {path}; train first, or correct the path")
        if entry := damaged_entry(path):
            raise ValueError(
                f"cannot read checkpoint {path} ({Path(path).stat().st_size} bytes): corrupted, "
                f"{entry} does not match its checksum. Remedy: {_remedy(Path(path), keys)}"
            )
        try:
            states = load(path, map_location=map_location, **kwargs)
        except MemoryError:
            raise
        except Exception as error:  # damaged bytes make the unpickler raise almost anything
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise  # no permission, a disk error: these say themselves what and where
            reason = (
                "it is not a whole checkpoint (truncated or corrupted)"
                if not zipfile.is_zipfile(path)
                else "it holds more than tensors and plain containers, or is damaged inside"
            )
            raise ValueError(
                f"cannot read checkpoint {path} ({Path(path).stat().st_size} bytes): {reason}: "
                f"{_first_line(error)} Remedy: {_remedy(Path(path), keys)}"
            ) from error
        if not isinstance(states, Mapping):
            raise ValueError(
                f"checkpoint {path} holds a {type(states).__name__}, expected a state dict: "
                f"{_remedy(Path(path), keys)}"
            )
        if not states:
            raise ValueError(
                f"checkpoint {path} holds nothing. Remedy: {_remedy(Path(path), keys)}"
            )
        missing = [key for key in keys if key not in states]
        if missing:
            raise ValueError(
                f"checkpoint {path} lacks {', '.join(missing)}; found "
                f"{', '.join(map(str, list(states)[:5])) or 'nothing'}: it is not a training state "
                f"to resume from. Remedy: {_remedy(Path(path), keys)}"
            )
        return states

    return read


def _first_line(error: BaseException) -> str:
    """Return the first line of the innermost cause's message."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:300].rstrip(".") + "."


def _remedy(path: Path, keys: Sequence[str]) -> str:
    """Say what a user can do about a bad file."""
    if not keys:
        return "use another epoch's file of this experiment, or copy it again from its source."
    return (
        f"move {path.name} away to train again from the start in {path.parent}, or put a sound "
        "copy in its place."
    )
