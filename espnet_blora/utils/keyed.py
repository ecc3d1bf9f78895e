"""`key value` files as Kaldi has them: one utterance per line, read whole or looked up.

The key ends at the first blank or tab; blanks around the value do not count. Nothing is repaired:
a file with a byte order mark, carriage returns, bytes that are not UTF-8, or a key that is empty,
double or holds control characters is refused, and all such lines are named in one error.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from espnet_blora.utils import atomic

_BLANKS = " \t"
_BLOCK = 1 << 20  # bytes decoded at a time
_SHOWN = 5  # further lines named in a message; the rest is counted


def check_key(key: str, where: str) -> None:
    """Refuse what is not an id.

    Args:
        key: The id.
        where: Begins the message, such as `file:line`.

    Raises:
        ValueError: The id is empty, or has blanks or control characters.
    """
    if key and key.isascii() and key.isprintable() and " " not in key:
        return
    if not key:
        raise ValueError(f"{where}: empty id; every line must start with an id, then a blank")
    # \x1c-\x1f, \x85, \xa0 and the like are blanks to Python's split() but not to Kaldi's tools
    bad = next((c for c in key if c.isspace() or ord(c) < 32 or c == "\ufeff"), None)
    if bad is not None:
        raise ValueError(
            f"{where}: id {key!r} contains {bad!r}; ids hold neither blanks nor control characters"
        )


def read_keyed(path: str | Path) -> dict[str, str]:
    """Read a file of `key value` lines; a line with a key alone gives an empty value.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: An id is double or empty, or the file has carriage returns, a byte order mark or
            bytes that are not UTF-8; names the file and the lines.
    """
    path = _existing(path)
    data = path.read_bytes()
    plain = _plain(data)
    if plain is not None:
        return plain
    return {key: line[len(key) :].strip(_BLANKS) for key, line, _ in _entries(path, data, {})}


class KeyedText(Mapping[str, str]):
    """A mapping id -> value over a file of `key value` lines, whose values stay in the file.

    The whole file is checked at once. Per utterance, its id, its line number and its place in the
    file are kept in memory. The file must not be cut short while it is in use.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As `read_keyed`.
    """

    def __init__(self, path: str | Path):
        self.path = _existing(path)
        self._data: mmap.mmap | bytes = b""
        if self.path.stat().st_size:
            with self.path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._numbers: dict[str, int] = {}
        self._starts = array("Q", (s for _, _, s in _entries(path, self._data, self._numbers)))
        size = len(self._data)
        self._starts.append(size + (self._data[size - 1 : size] != b"\n"))

    def __getitem__(self, key: str) -> str:
        number = self._numbers[key]
        line = self._data[self._starts[number - 1] : self._starts[number] - 1].decode("utf-8")
        return line[len(key) :].strip(_BLANKS)

    def __contains__(self, key: object) -> bool:
        return key in self._numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def where(self, key: str) -> str:
        """Return `file:line` of an id.

        Raises:
            KeyError: The file has no such id.
        """
        return f"{self.path}:{self._numbers[key]}"


def c_sorted(keys: Iterable[str]) -> list[str]:
    """Sort as `LC_ALL=C sort` does: by UTF-8 bytes.

    >>> c_sorted(["b", "B", "\u00e9"])
    ['B', 'b', '\u00e9']
    """
    return sorted(keys, key=lambda key: key.encode("utf-8"))


def write_keyed(path: str | Path, mapping: Mapping[str, str]) -> None:
    """Write `key value` lines sorted by the key's bytes; the file appears whole or not at all.

    Raises:
        ValueError: An id is empty or has blanks, or a value has a line break.
    """
    path = Path(path)
    lines = []
    for key in c_sorted(mapping):
        value = mapping[key]
        check_key(key, str(path))
        if "\n" in value or "\r" in value:
            raise ValueError(f"{path}: value of {key!r} holds a line break: {value!r}")
        lines.append(f"{key} {value}\n" if value else f"{key}\n")
    atomic.write(path, "".join(lines))


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a list of '<id> <value>' lines is expected")
    return path


def _plain(data: bytes) -> dict[str, str] | None:
    """Return what a file without tabs, odd characters and mistakes holds, None for any other.

    A third of the time of `_entries`, which says what is wrong: a million lines take 0.8 s.
    """
    values: dict[str, str] = {}
    lines = 0
    for block in _blocks(data):
        try:
            text = block.decode("utf-8")
        except UnicodeDecodeError:
            return None
        # no blank but " ", no control character, no byte order mark: `check_key` finds nothing
        if not text.replace("\n", "").isprintable():
            return None
        lines += text.count("\n") + 1
        parts = (line.partition(" ") for line in text.split("\n"))
        values.update((key, value.strip(" ")) for key, _, value in parts)
    return values if len(values) == lines and "" not in values else None


class _Problems:
    """Bad lines by kind: the first in full, the next ones by number, the rest counted."""

    def __init__(self, path: str | Path):
        self.path = path
        self.kinds: dict[str, tuple[str, list[int]]] = {}

    def add(self, kind: str, number: int, message: str) -> None:
        """Note one bad line."""
        self.kinds.setdefault(kind, (f"{self.path}:{number}: {message}", []))[1].append(number)

    def check(self) -> None:
        """Raise ValueError if there are any."""
        messages = []
        for message, lines in sorted(self.kinds.values(), key=lambda kind: kind[1]):
            more = ", ".join(map(str, lines[1 : _SHOWN + 1])) + ", ..." * (len(lines) > _SHOWN + 1)
            if more:
                message += f" (and {len(lines) - 1} more: lines {more})"
            messages.append(message)
        if messages:
            raise ValueError("; ".join(messages))


def _entries(
    path: str | Path, data: bytes | mmap.mmap, numbers: dict[str, int]
) -> Iterator[tuple[str, str, int]]:
    """Yield (key, line, byte at which the line starts) of every good line.

    Args:
        path: The file, for messages.
        data: Its bytes.
        numbers: Gets key -> line number.

    Raises:
        ValueError: After the last line if any was bad; at once for a byte order mark.
    """
    if data[:3] == b"\xef\xbb\xbf":
        raise ValueError(f"{path}:1: byte order mark; save the file as UTF-8 without BOM")
    problems = _Problems(path)
    number = start = 0
    for block in _blocks(data):
        raws = block.split(b"\n")
        for raw, line in zip(raws, _decoded(block, raws, number, problems), strict=True):
            number += 1
            begin, start = start, start + len(raw) + 1
            if line is None:
                continue
            # the key ends at the first blank or tab, whichever comes first
            cut = line.find(" ")
            tab = line.find("\t", 0, cut) if cut >= 0 else line.find("\t")
            key = line[: tab if tab >= 0 else cut] if max(tab, cut) >= 0 else line
            if key in numbers:
                problems.add(
                    "double", number, f"duplicate id {key!r}, first seen on line {numbers[key]}"
                )
                continue
            try:
                check_key(key, "")
            except ValueError as error:
                problems.add("id" if key else "empty", number, str(error).removeprefix(": "))
                continue
            numbers[key] = number
            yield key, line, begin
    problems.check()


def _blocks(data: bytes | mmap.mmap) -> Iterator[bytes]:
    """Yield whole lines, about `_BLOCK` bytes of them at a time, without the last line break."""
    start, size = 0, len(data)
    while start < size:
        end = data.find(b"\n", min(start + _BLOCK, size - 1))
        end = size if end < 0 else end
        yield data[start:end]
        start = end + 1


def _decoded(
    block: bytes, raws: list[bytes], before: int, problems: _Problems
) -> Sequence[str | None]:
    """Return the lines of a block as text; None for a line that was added to the problems."""
    if b"\r" not in block:
        try:
            return block.decode("utf-8").split("\n")
        except UnicodeDecodeError:
            pass  # one line after the other, to say which
    return [_line(raw, number, problems) for number, raw in enumerate(raws, before + 1)]


def _line(raw: bytes, number: int, problems: _Problems) -> str | None:
    if b"\r" in raw:
        problems.add("return", number, "carriage return; convert the file with: sed -i 's/\\r//g'")
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        place = f"byte {raw[error.start]:#04x} at column {error.start + 1}"
        problems.add("bytes", number, f"not UTF-8 ({place}); convert the file with iconv -t UTF-8")
        return None
