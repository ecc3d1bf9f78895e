"""SEAME's official split: the lines of devman and devsge, and the training recordings.

The list is a public git repository (Zeng et al., Interspeech 2019). It holds transcripts of LDC's
corpus, so it is fetched at run time and never shipped. Names in it are lower case, and its times
are centiseconds that may lie a little beside LDC's milliseconds.
"""

from __future__ import annotations

import bisect
import logging
import os
import random
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_blora.data.corpora import tables
from espnet_blora.data.corpora.common import part_size
from espnet_blora.utils import atomic
from espnet_blora.utils.keyed import c_sorted

log = logging.getLogger(__name__)

URL = "https://github.com/zengzp0912/SEAME-dev-set"
DEFAULT_DIR = "downloads/SEAME-dev-set"
TEST_SETS = {"devman": "dev_man", "devsge": "dev_sge"}  # our name -> the repository's folder
TOLERANCE = 3  # centiseconds, at both ends
_TRAIN_LIST = "train/wav_file.txt"
_VALID_SEED = 531  # ESPnet's
_CLONE_SECONDS = 300

_NAME = re.compile(r"^(\d\d)?(nc|ni|ui)(\d\d)([a-z]{3})_(\d{4})$")
_LETTERS = ("mf", "ab", "pqxyz")
_TIMES = re.compile(r"-(\d+)-(\d+)$")


def canonical(recording: str) -> str:
    """Return a recording's name in lower case, with the speaker's letters in their usual order.

    The letters are gender (M, F), nationality (A, B) and channel (P, Q, X, Y, Z). LDC's copy has
    one file with the channel first (`31NC50XFB_0101`), which the official list calls
    `31nc50fbx_0101`: compared as they stand, a training recording would be lost.
    """
    name = recording.strip().lower()
    parts = _NAME.match(name)
    if parts is None:
        return name
    letters = "".join(c for kind in _LETTERS for c in parts[4] if c in kind)
    return name if len(letters) != 3 else name.replace(parts[4], letters)


def speaker_of(recording: str) -> str:
    """Return the speaker of a recording, as ESPnet names it.

    Interviews: the first five characters (`ni97m`); conversations: without the pair's number and
    the last two letters of the name (`99nc98fbx_0101` -> `nc98f`), so that one person in two
    pairs is one speaker.
    """
    prefix = canonical(recording).split("_")[0]
    return prefix[2:-2] if prefix[:1].isdigit() else prefix[:5]


@dataclass(frozen=True, slots=True)
class Listed:
    """One utterance of an official test set; times in centiseconds."""

    id: str
    recording: str
    start: int
    end: int
    text: str
    where: str


@dataclass(frozen=True)
class Split:
    """The official split: test set -> its utterances, and the training recordings' names."""

    tests: Mapping[str, tuple[Listed, ...]]
    train: frozenset[str]

    def recordings(self) -> frozenset[str]:
        """Return all recordings that the split names."""
        tested = {listed.recording for test in self.tests.values() for listed in test}
        return self.train | tested


def is_clone(folder: Path) -> bool:
    """Tell whether a folder holds the split."""
    return (folder / _TRAIN_LIST).is_file()


def clone_command(folder: Path | str) -> str:
    """Return the command that gets the split."""
    return f"git clone {URL} {folder}"


def fetch(folder: Path) -> Path:
    """Return the folder of the split, cloning it there if it does not exist.

    Raises:
        FileNotFoundError: The folder holds something else, or the split cannot be cloned; says the
            command to run.
    """
    if is_clone(folder):
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileNotFoundError(
            f"{folder}: is not a clone of SEAME's official split ({_TRAIN_LIST} is missing in it). "
            f"Give split_dir another folder, or get the split with: {clone_command(folder)}"
        )
    try:
        with atomic.new_folder(folder) as part:
            subprocess.run(
                ["git", "clone", "--quiet", "--depth", "1", URL, str(part)],
                check=True,
                capture_output=True,
                text=True,
                timeout=_CLONE_SECONDS,
                env=os.environ | {"GIT_TERMINAL_PROMPT": "0"},  # else git may wait for a password
            )
    except (OSError, subprocess.SubprocessError) as error:
        output = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise FileNotFoundError(
            f"{folder}: SEAME's official split is not there and could not be cloned "
            f"({output[-1] if output else 'git failed'}). On a machine with internet run: "
            f"{clone_command(folder)} ; then give that folder as split_dir=FOLDER"
        ) from error
    log.info(f"SEAME's official split: cloned {URL} into {folder}")
    if not is_clone(folder):
        raise FileNotFoundError(f"{folder}: cloned from {URL}, but it has no {_TRAIN_LIST}")
    return folder


def _read_test(folder: Path) -> tuple[Listed, ...]:
    """Read one test set of the split."""
    texts = {line.key: line.value for line in tables.keyed(folder / "text")}
    listed = []
    for where, key, value in tables.keyed(folder / "segments"):
        times, fields = _TIMES.search(key), value.split()
        if times is None or not fields:
            raise ValueError(
                f"{where}: {key!r} {value!r}; expected '<speaker>-<recording>-<start cs>-<end cs> "
                "<recording> <start s> <end s>'"
            )
        if key not in texts:
            raise ValueError(f"{where}: {key!r} is not in {folder / 'text'}; clone it again")
        recording = canonical(fields[0])
        listed.append(Listed(key, recording, int(times[1]), int(times[2]), texts[key], where))
    return tuple(listed)


def read_split(folder: Path) -> Split:
    """Read the split repository.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A line is malformed; names file and line.
    """
    tests = {name: _read_test(folder / place) for name, place in TEST_SETS.items()}
    lines = (line.strip() for _, line in tables.lines(folder / _TRAIN_LIST))
    train = {canonical(Path(line).stem) for line in lines if line}
    if not train:
        raise ValueError(f"{folder / _TRAIN_LIST}: names no recording; clone it again")
    return Split(tests, frozenset(train))


def centiseconds(milliseconds: int) -> int:
    """Return milliseconds as centiseconds, a half rounded up.

    >>> centiseconds(1004), centiseconds(1005)
    (100, 101)
    """
    return (milliseconds + 5) // 10


def match(
    listed: Iterable[Listed], spans: Mapping[str, Sequence[tuple[int, int]]]
) -> tuple[dict[str, tuple[str, int]], list[Listed]]:
    """Find the corpus's line of each official utterance: the nearest one within `TOLERANCE`.

    Args:
        listed: Official utterances.
        spans: Recording -> (start, end) of its lines in centiseconds, in the order of the file.

    Returns:
        Id -> (recording, index of the line), each line used once; and the utterances without a
        line. Times are compared as numbers: ids have five digits, six beyond 999.99 s.
    """
    # Lines by start, so that those near an utterance are found by bisection.
    order = {name: sorted(range(len(s)), key=s.__getitem__) for name, s in spans.items()}
    starts = {name: [spans[name][i][0] for i in indices] for name, indices in order.items()}
    places: dict[str, tuple[str, int]] = {}
    used: set[tuple[str, int]] = set()
    lost = []
    for u in sorted(listed, key=lambda u: (u.recording, u.start, u.end, u.id)):
        begins = starts.get(u.recording, [])
        near = []  # (distance, index of the line)
        for place in range(
            bisect.bisect_left(begins, u.start - TOLERANCE),
            bisect.bisect_right(begins, u.start + TOLERANCE),
        ):
            index = order[u.recording][place]
            start, end = spans[u.recording][index]
            if abs(end - u.end) <= TOLERANCE and (u.recording, index) not in used:
                near.append((abs(start - u.start) + abs(end - u.end), index))
        if near:
            places[u.id] = (u.recording, min(near)[1])
            used.add(places[u.id])
        else:
            lost.append(u)
    return places, lost


def draw_valid(ids: Iterable[str], valid: str) -> frozenset[str]:
    """Choose the validation utterances among those for training.

    ESPnet shuffles with seed 531 and takes the last 5 %; its order before the shuffle is that of a
    directory listing, so no two machines agree. Here the ids are sorted by their bytes first. As
    there, speakers of valid also occur in train.

    Args:
        ids: Of all utterances for training.
        valid: A share or count, see `part_size`; BLoRA's authors take `"3000"`.
    """
    shuffled = c_sorted(ids)
    size = part_size(valid, len(shuffled), "valid")
    random.Random(_VALID_SEED).shuffle(shuffled)
    return frozenset(shuffled[len(shuffled) - size :])
