"""Files that appear whole or not at all.

Every file of this package is written through here: into a temporary file of the same folder, synced
to disk, renamed over its place. Whatever fails, the file that was there before stays as it was and
no temporary file is left.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

PART = ".part"
"""Ending of temporary files; their names begin with a dot."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

log = logging.getLogger(__name__)


def write(path: str | Path, content: str | bytes | memoryview, *, sync: bool = True) -> None:
    """Write a file (text as UTF-8); its folder is made if it is not there.

    Args:
        path: The file.
        content: All of it.
        sync: Wait until it is on the disk. Only files that are made by the thousand, and can be
            made again, do without.

    Raises:
        OSError: The disk is full or cannot be written; says what is left and what to do.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with writing(path, sync=sync) as file:
        file.write(data)


@contextmanager
def writing(path: str | Path, mode: str = "wb", *, sync: bool = True) -> Iterator[IO[Any]]:
    """Open a file for writing that takes its name only when the block ends without an error.

    Args:
        path: The file; its folder is made if it is not there.
        mode: `"wb"`, or `"w"` for UTF-8 text with LF as line break.
        sync: As in `write`.

    Raises:
        OSError: The disk is full or cannot be written; says what is left and what to do.
    """
    with replacing(path, sync=sync) as part:
        text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
        with part.open(mode, **text) as file:
            watched = _Watched(file)
            try:
                yield watched  # type: ignore[misc]
                watched.flush()
            except BaseException:
                # torch.save hides the OSError of a full disk behind its own RuntimeError
                if watched.error is not None:
                    raise watched.error  # noqa: B904
                raise


@contextmanager
def replacing(path: str | Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield the path of a temporary file that is renamed over `path` when the block ends well.

    A symbolic link is written through. For writers that want a path; `writing` for all others.

    Raises:
        OSError: The disk is full or cannot be written; says what is left and what to do.
    """
    path = Path(path)
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    part: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=PART)
        os.close(handle)
        part = Path(name)
        yield part
        part.chmod(0o666 & ~_umask())
        if sync:
            _sync(part)
        os.replace(part, target)
        if sync:
            _sync(target.parent)
    except OSError as error:
        if part is None or error.filename is None or Path(error.filename) in (part, target):
            raise OSError(error.errno, _failed(target, error)) from error
        raise
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def link(place: str | Path, target: str) -> None:
    """Make `place` a symbolic link to `target`, replacing what was there in one step."""
    place = Path(place)
    part = place.with_name(f".{place.name}.{os.getpid()}{PART}")
    part.unlink(missing_ok=True)
    try:
        part.symlink_to(target)
        os.replace(part, place)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder that takes the name `path` when the block ends well.

    Raises:
        OSError: `path` is a folder that is not empty, the disk is full, or it cannot be written;
            says what is left and what to do.
    """
    path, part = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART))
        part.chmod(0o777 & ~_umask())
        yield part
        os.replace(part, path)
    except Exception as error:
        cause = error if isinstance(error, OSError) else _no_room(part)
        if cause is None or cause.errno is None or not _concerns(cause, path, part):
            raise
        raise OSError(cause.errno, _failed(path, cause)) from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def _no_room(folder: Path | None) -> OSError | None:
    """Return the OSError of a full disk, which torch, safetensors and others hide behind theirs."""
    try:
        if folder is not None:
            (folder / f"room{PART}").write_bytes(bytes(1_000_000))
    except OSError as error:
        return error
    return None


def _concerns(error: OSError, path: Path, part: Path | None) -> bool:
    """Return whether an error is about a folder that is made, not about what its writer reads."""
    if part is None or error.filename is None:
        return True
    return Path(error.filename) == path or part in (
        Path(error.filename),
        *Path(error.filename).parents,
    )


def leftovers(folder: str | Path) -> list[Path]:
    """Return the temporary files of writers that were killed, in order of name."""
    return sorted(Path(folder).glob(f".*{PART}"))


class _Watched:
    """A file that remembers the first OSError of its own, whatever its writer makes of it."""

    def __init__(self, file: IO[Any]):
        self._file = file
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        """Write as the file does."""
        written: int = self._kept(self._file.write, data)
        return written

    def flush(self) -> None:
        """Flush as the file does."""
        self._kept(self._file.flush)

    def _kept(self, call: Callable[..., Any], *args: Any) -> Any:
        try:
            return call(*args)
        except OSError as error:
            self.error = self.error or error
            raise


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _sync(path: Path) -> None:
    """Sync a file, or the entries of a folder so that a rename in it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir():
            raise
        # Some network file systems refuse fsync on folders; the rename itself is still atomic.
        log.debug("no fsync on folder %s: %s", path, error)
    finally:
        os.close(descriptor)


def _failed(path: Path, cause: OSError) -> str:
    """Say which file could not be written, why, what is safe and what to do."""
    kept = "the file that was there is intact" if path.exists() else "no file was left half-made"
    text = f"could not write {path}: {cause.strerror or cause}; {kept}."
    if cause.errno in _FULL:
        folder = next(folder for folder in path.absolute().parents if folder.is_dir())
        free = shutil.disk_usage(folder).free
        text += (
            f" Free on this disk: {free / 1e6:.0f} MB. Remedy: make room (or raise the quota) and "
            "start the same command again; training resumes from the last whole checkpoint."
        )
    return text
