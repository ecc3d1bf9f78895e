"""Which clips are cut already and from what: how an interrupted preparation goes on.

`cuts.jsonl` lies beside the clips, one JSON list a line; a line is added when its clip is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet_blora.data.clips import Cut
from espnet_blora.utils import atomic

_NAME = "cuts.jsonl"


class Journal:
    """The clips in one folder: id -> where from (a key), bytes, and the result of cutting."""

    def __init__(self, folder: Path) -> None:
        """Read what is there; lines cut short by a crash do not count."""
        self.folder = folder
        self.entries: dict[str, list[Any]] = {}
        path = folder / _NAME
        if path.exists():
            for line in path.read_bytes().split(b"\n"):
                try:
                    key, *rest = json.loads(line)
                    whence, size, samples, notes = rest
                except (ValueError, TypeError):
                    continue
                self.entries[key] = [whence, size, samples, notes]
        self._before = set(self.entries)
        self._sizes = {e.name: e.stat().st_size for e in os.scandir(folder) if e.is_file()}
        self._save()
        self._file = path.open("a", encoding="utf-8", newline="\n")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def lookup(self, key: str, whence: str) -> Cut | None:
        """The result of an earlier run, if the clip came from the same place and is still whole."""
        found = self.entries.get(key)
        if found is None or found[0] != whence or self._sizes.get(f"{key}.flac") != found[1]:
            return None
        return Cut(key, found[2], notes=tuple((what, detail) for what, detail in found[3]))

    def add(self, cut: Cut, whence: str) -> None:
        """Remember a clip that was cut; failures are tried again in the next run."""
        if cut.reason:
            self.entries.pop(cut.id, None)
            return
        size = (self.folder / f"{cut.id}.flac").stat().st_size
        self.entries[cut.id] = [whence, size, cut.samples, [list(note) for note in cut.notes]]
        try:
            self._file.write(json.dumps([cut.id, *self.entries[cut.id]]) + "\n")
            self._file.flush()
        except OSError as error:
            place = str(self.folder / _NAME)
            raise OSError(error.errno, f"could not write ({error.strerror})", place) from error

    def settle(self, current: Mapping[str, str]) -> None:
        """Keep the entries that are `current` (id -> key); remove clips that are not any more.

        Only clips an earlier run entered here are removed, and the unfinished files of runs that
        died.
        """
        self.entries = {k: entry for k, entry in self.entries.items() if current.get(k) == entry[0]}
        for key in sorted(self._before - set(self.entries)):
            (self.folder / f"{key}.flac").unlink(missing_ok=True)
        for name in self._sizes:
            if name.startswith(".") and name.endswith(".part"):
                (self.folder / name).unlink(missing_ok=True)
        self._save()

    def _save(self) -> None:
        lines = [json.dumps([key, *self.entries[key]]) + "\n" for key in sorted(self.entries)]
        atomic.write(self.folder / _NAME, "".join(lines))
