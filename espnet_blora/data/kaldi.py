"""Kaldi data directories: reading, writing, checking, taking a part.

A data directory holds ``key value`` files, one utterance (or speaker) a line, sorted by the key's bytes
(``LC_ALL=C``): ``wav.scp``, ``text``, ``utt2spk``, ``spk2utt`` and, in this project, ``utt2lang`` with
one Whisper language code an utterance.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

_PER_UTTERANCE = ("wav.scp", "text", "utt2spk", "utt2lang")
_BLANKS = " \t"


def _check_key(key: str, where: str) -> None:
    if not key:
        raise ValueError(f"{where}: empty id; every line must start with an id, then a blank")
    # \x1c-\x1f, \x85, \xa0 and the like are blanks to Python's split() but not to Kaldi's tools
    bad = next((c for c in key if c.isspace() or ord(c) < 32 or c == "\ufeff"), None)
    if bad is not None:
        raise ValueError(
            f"{where}: id {key!r} contains {bad!r}; ids must hold neither blanks nor control characters"
        )


def read_keyed(path: str | Path) -> dict[str, str]:
    """Read a file of ``key value`` lines; a line with a key alone gives an empty value.

    Raises: FileNotFoundError; ValueError naming file and line for a duplicate or empty id, a carriage
    return, a byte order mark, or bytes that are not UTF-8.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a list of '<id> <value>' lines is expected")
    data = path.read_bytes()
    if data.startswith(b"\xef\xbb\xbf"):
        raise ValueError(f"{path}:1: byte order mark; save the file as UTF-8 without BOM")
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    result: dict[str, str] = {}
    first: dict[str, int] = {}
    for number, raw in enumerate(lines, 1):
        where = f"{path}:{number}"
        if b"\r" in raw:
            raise ValueError(f"{where}: carriage return; convert the file with: sed -i 's/\\r//g'")
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{where}: not UTF-8 (byte {raw[error.start]:#04x} at column {error.start + 1}); "
                "convert the file with iconv -t UTF-8"
            ) from error
        cut = min((i for i in (line.find(b) for b in _BLANKS) if i >= 0), default=len(line))
        key, value = line[:cut], line[cut:].strip(_BLANKS)
        _check_key(key, where)
        if key in result:
            raise ValueError(f"{where}: duplicate id {key!r}, first seen on line {first[key]}")
        result[key], first[key] = value, number
    return result


def c_sorted(keys: Iterable[str]) -> list[str]:
    """Sort as ``LC_ALL=C sort`` does: by UTF-8 bytes."""
    return sorted(keys, key=lambda key: key.encode("utf-8"))


def write_keyed(path: str | Path, mapping: Mapping[str, str]) -> None:
    """Write ``key value`` lines sorted by the key's bytes; the file appears whole or not at all.

    Raises: ValueError for an empty id, an id with blanks, or a value with a line break.
    """
    path = Path(path)
    lines = []
    for key in c_sorted(mapping):
        value = mapping[key]
        _check_key(key, str(path))
        if "\n" in value or "\r" in value:
            raise ValueError(f"{path}: value of {key!r} holds a line break: {value!r}")
        lines.append(f"{key} {value}\n" if value else f"{key}\n")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text("".join(lines), encoding="utf-8", newline="\n")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(error.errno, f"could not write ({error.strerror})", str(path)) from error


def write_spk2utt(directory: str | Path) -> None:
    """Write ``spk2utt`` from ``utt2spk``."""
    directory = Path(directory)
    speakers: dict[str, list[str]] = {}
    for utterance, speaker in read_keyed(directory / "utt2spk").items():
        speakers.setdefault(speaker, []).append(utterance)
    lines = {speaker: " ".join(c_sorted(ids)) for speaker, ids in speakers.items()}
    write_keyed(directory / "spk2utt", lines)


def write_data_dir(
    directory: str | Path,
    wav: Mapping[str, str],
    text: Mapping[str, str],
    utt2spk: Mapping[str, str],
    utt2lang: Mapping[str, str],
) -> None:
    """Write a whole data directory; ``wav.scp``, which says that it is complete, comes last."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "wav.scp").unlink(missing_ok=True)
    write_keyed(directory / "text", text)
    write_keyed(directory / "utt2spk", utt2spk)
    write_keyed(directory / "utt2lang", utt2lang)
    write_spk2utt(directory)
    write_keyed(directory / "wav.scp", wav)
