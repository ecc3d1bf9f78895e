"""Tables of a corpus, row by row, each row with its place (`file:line`).

All are UTF-8. A byte order mark at the beginning and a carriage return at a line's end, which
editors leave behind, are taken off; a line of blanks alone is passed over. Anything else that is
wrong with a row is an error that names the line, as a shifted column would train on wrong text.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One row: its place, and its fields by the column's name."""

    where: str
    fields: dict[str, str]


class Keyed(NamedTuple):
    """One line `<key> <value>`: its place, its key, and the rest of the line."""

    where: str
    key: str
    value: str


class Mistakes:
    """Wrong rows, which are told together instead of one per run."""

    MOST = 20

    def __init__(self) -> None:
        self.messages: list[str] = []

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Keep a ValueError for later; after `MOST` of them raise all."""
        try:
            yield
        except ValueError as error:
            self.messages.append(str(error))
            if len(self.messages) == self.MOST:
                self.tell(" so far")

    def tell(self, so_far: str = "") -> None:
        """Raise a ValueError with what was kept, one line each, if there is anything."""
        if len(self.messages) == 1:
            raise ValueError(self.messages[0])
        if self.messages:
            rows = "\n  ".join(self.messages)
            raise ValueError(f"{len(self.messages)} wrong rows{so_far}:\n  {rows}\n ")


def lines(path: str | Path) -> Iterator[tuple[str, str]]:
    """Yield the place and text of each line, without its end.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Bytes are not UTF-8; names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            where = f"{path}:{number}"
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            try:
                yield where, raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
            except UnicodeDecodeError as error:
                others = sum("\ufffd" in later.decode("utf-8", "replace") for later in file)
                more = f", as are {others} lines below" if others else ""
                raise ValueError(
                    f"{where}: not UTF-8 (byte {raw[error.start]:#04x} at column {error.start + 1})"
                    f"{more}; is it damaged, or in another encoding (iconv -t UTF-8)?"
                ) from error


def keyed(path: str | Path) -> Iterator[Keyed]:
    """Yield lines `<key> <value>`, cut at the first blank or TAB; the value may be empty.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is not UTF-8, begins with a blank, or has the key of an earlier line;
            names file and line.
    """
    first: dict[str, str] = {}
    for where, line in lines(path):
        if not line.strip():
            continue
        if line[0].isspace():
            raise ValueError(f"{where}: begins with a blank; expected '<id> <text>'")
        key, *rest = line.split(maxsplit=1)
        if key in first:
            raise ValueError(f"{where}: {key!r} is there already, at {first[key]}")
        first[key] = where
        yield Keyed(where, key, rest[0].strip() if rest else "")


def tsv(
    path: str | Path, needed: Sequence[str] = (), columns: Sequence[str] | None = None
) -> Iterator[Row]:
    """Yield the rows of a table whose fields are separated by TABs and never quoted.

    Args:
        path: The table.
        needed: Columns that the header must have, in any order.
        columns: Names of the fields of a table without a header.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A needed column is absent, a row has another number of fields than the header,
            or bytes are not UTF-8; names file and line.
    """
    rows = ((where, line.split("\t")) for where, line in lines(path) if line.strip())
    return _rows(rows, needed, columns)


def csv_rows(path: str | Path, needed: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a table of comma-separated values with a header line (RFC 4180 quotes).

    A quoted field may hold commas and line breaks; the place of a row is its first line.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As in `tsv`, or a quote is never closed; names file and line.
    """
    return _rows(csv_fields(path), needed)


def csv_fields(path: str | Path, delimiter: str = ",") -> Iterator[tuple[str, list[str]]]:
    """Yield place and fields of each row of a table with quotes as in RFC 4180.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Bytes are not UTF-8, or a quote is never closed; names file and line.
    """
    rows = (f"{line}\n" for _, line in lines(path))
    reader = csv.reader(rows, strict=True, delimiter=delimiter)
    while True:
        where = f"{path}:{reader.line_num + 1}"
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"{where}: quotes do not pair up ({error}); a text with quotes or commas stands in "
                'double quotes, and a quote in it is doubled: "he said ""yes"", then left"'
            ) from error
        if fields is None:
            return
        if any(field.strip() for field in fields):
            yield where, fields


def json_lines(path: str | Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and content of each line, one JSON object per line; `needed` keys hold strings.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is not UTF-8 or not a JSON object, or lacks a key; names file and line.
    """
    for where, line in lines(path):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{where}: not JSON: {error}") from error
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: a {type(entry).__name__}; expected an object {{...}}")
        for key in needed:
            if not isinstance(entry.get(key), str):
                raise ValueError(
                    f"{where}: {key!r} is {entry.get(key)!r}; expected a string (keys here: "
                    f"{', '.join(entry)})"
                )
        yield where, entry


def _rows(
    rows: Iterable[tuple[str, list[str]]],
    needed: Sequence[str],
    columns: Sequence[str] | None = None,
) -> Iterator[Row]:
    """Yield rows of fields by column; without `columns` the first row is the header."""
    for where, fields in rows:
        if columns is None:
            columns = _header(where, fields, needed)
        else:
            yield Row(where, _named(where, columns, fields))


def _header(where: str, columns: list[str], needed: Sequence[str]) -> list[str]:
    """Return the names of the columns; ValueError if one is absent or there twice."""
    columns = [column.strip() for column in columns]
    if absent := [name for name in needed if name not in columns]:
        raise ValueError(
            f"{where}: no column {', '.join(absent)}; the header has: {', '.join(columns)}"
        )
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise ValueError(f"{where}: column {', '.join(twice)} is there twice")
    return columns


def _named(where: str, columns: Sequence[str], fields: list[str]) -> dict[str, str]:
    """Return the fields of a row by column; ValueError for another number of fields."""
    if len(fields) != len(columns):
        raise ValueError(
            f"{where}: {len(fields)} fields, expected {len(columns)} ({', '.join(columns)}); is "
            "the file cut off, or was it edited?"
        )
    return dict(zip(columns, fields, strict=True))
