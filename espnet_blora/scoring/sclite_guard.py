"""A guard before sclite: ESPnet's scoring stage runs to its end, and no figure is silently wrong.

ESPnet calls ``sclite ... -r ref.trn trn -h hyp.trn trn -i rm -o all stdout > result.txt`` under
``set -e``. The guard stands before the real program on PATH. It

* spells out what sclite would mis-read (:mod:`espnet_blora.scoring.sclite`), alike in both files,
  and says so;
* refuses what cannot be scored (ids missing, doubled, shifted against the decoded text);
* compares the number of utterances and reference tokens scored with its own count;
* where there is no trustworthy figure (no sclite, a crash, a refusal) prints a table whose
  ``Sum/Avg`` row says "not scored", with the reason above it, and ends with status 0: our own
  scorer comes after and needs no sclite.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from espnet_blora.scoring.sclite import (
    find_sclite,
    id_hazards,
    parse_totals,
    safe_token,
    token_hazard,
)

_BLANKS = re.compile(r"[ \t\r\v\f]+")  # what sclite takes for blanks
_ID = re.compile(r"\(([^()]*)\)\s*$")
_NON_ASCII = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]")  # what -c NOASCII makes of a token
_LISTED = 10
# Options that change what a word is or which ones count: then tokens cannot be compared with ours.
_OTHER_TOKENS = {"-c", "-D", "-F", "-S", "-T", "-C", "-m", "-b", "-p", "-l", "-L"}


class NotScored(Exception):
    """There is no trustworthy figure; the message says why."""


@dataclass
class _Side:
    """One ``.trn`` file: ids in file order and their tokens."""

    path: Path
    ids: list[str]
    tokens: list[list[str]]


def guard(argv: Sequence[str], real: Path | None = None, exclude: Sequence[Path] = ()) -> int:
    """Run sclite with these arguments, guarded; write its report to stdout and notes to stderr.

    Args:
        argv: sclite's arguments.
        real: the real sclite; by default the first one on PATH, in ``tools/sctk``, or in Debian's
            place.
        exclude: what is not to be taken for the real sclite: the guard's own directory.

    Returns: 0 for a scored or a "not scored" table; sclite's own status for calls that compare no
        ``.trn`` files.
    """
    tools = Path(__file__).resolve().parents[2] / "tools"
    real = real or find_sclite(
        [*exclude, tools / "bin", tools / "bin" / "sclite"], [tools / "sctk" / "bin"]
    )
    ref, hyp = _file_after(argv, "-r"), _file_after(argv, "-h")
    if ref is None or hyp is None:
        if real is None:
            return _say_not_scored(_ABSENT)
        return subprocess.run([str(real), *argv], check=False).returncode
    try:
        if real is None:
            raise NotScored(_ABSENT)
        left, right = _read(argv[ref]), _read(argv[hyp])
        _check_pairs(left, right)
        _write_out(_score(real, list(argv), ref, hyp, left, right))
    except NotScored as reason:
        return _say_not_scored(f"{argv[hyp]}: {reason}")
    return 0


_ABSENT = "there is no sclite here; get it with: make sclite (or apt-get install sctk)"


def _file_after(argv: Sequence[str], flag: str) -> int | None:
    """Return the place of the file name after ``-r`` or ``-h`` if its format is ``trn``."""
    for n, word in enumerate(argv[:-2]):
        if word == flag and argv[n + 2] == "trn":
            return n + 1
    return None


def _read(name: str) -> _Side:
    path = Path(name)
    if not path.is_file():
        raise NotScored(f"{path}: no such file")
    ids, tokens = [], []
    # surrogateescape: bytes that are no UTF-8 come out again as they came in
    for number, line in enumerate(path.read_text("utf-8", "surrogateescape").split("\n"), 1):
        if not line.strip():
            continue
        head, tab, tail = line.rpartition("\t")
        if tab and tail.startswith("(") and tail.rstrip().endswith(")"):
            text, key = head, tail.rstrip()[1:-1]  # as ESPnet writes it: the id may hold anything
        else:
            match = _ID.search(line)
            if match is None:
                raise NotScored(f"{path}:{number}: no '(id)' at the end of the line")
            text, key = line[: match.start()], match.group(1)
        ids.append(key)
        tokens.append([token for token in _BLANKS.split(text) if token])
    if not ids:
        raise NotScored(f"{path}: no utterance in it")
    return _Side(path, ids, tokens)


def _check_pairs(ref: _Side, hyp: _Side) -> None:
    for side in (ref, hyp):
        seen: set[str] = set()
        doubled = [key for key in side.ids if key in seen or seen.add(key)]
        if doubled:
            raise NotScored(f"{side.path}: ids that occur twice: {_some(doubled)}")
    missing, extra = set(ref.ids) - set(hyp.ids), set(hyp.ids) - set(ref.ids)
    if missing:
        raise NotScored(f"{len(missing)} references have no hypothesis: {_some(sorted(missing))}")
    if extra:
        raise NotScored(f"{len(extra)} hypotheses have no reference: {_some(sorted(extra))}")
    # ESPnet pastes ids beside decoded texts by line: a text that is missing shifts all that follow.
    decoded = hyp.path.parent.parent / "text"
    if (
        hyp.path.name == "hyp.trn"
        and hyp.path.parent.name.startswith("score_")
        and decoded.is_file()
    ):
        lines = decoded.read_text("utf-8", "surrogateescape").splitlines()
        keys = [_BLANKS.split(line, maxsplit=1)[0] for line in lines]
        # not strict: the first shifted id says more than a difference in length, checked below
        for number, (key, pasted) in enumerate(zip(keys, hyp.ids, strict=False), 1):
            if pasted != key and not pasted.endswith("-" + key):
                raise NotScored(
                    f"line {number} is {pasted!r}, but the text decoded there is that of {key!r}: "
                    f"texts and ids are shifted ({decoded} holds {len(keys)} texts for "
                    f"{len(hyp.ids)} ids)"
                )
        if len(keys) != len(hyp.ids):
            raise NotScored(f"{decoded} holds {len(keys)} texts for {len(hyp.ids)} utterances")


def _score(real: Path, argv: list[str], ref: int, hyp: int, left: _Side, right: _Side) -> str:
    names = _safe_ids(left.ids)
    notes = [f"id {old!r} is written {new!r}" for old, new in names.items() if new != old]
    with tempfile.TemporaryDirectory(prefix="sclite_guard_") as box:
        for place, side in ((ref, left), (hyp, right)):
            safe = Path(box) / f"{place}.trn"
            changed, lines = _safe_lines(side, names, _splits_non_ascii(argv))
            notes += changed
            safe.write_text("".join(lines), "utf-8", "surrogateescape", newline="\n")
            argv[place] = str(safe)
        # the title keeps the report naming the user's file; output files go beside it, as sclite
        # does
        if hyp + 2 >= len(argv) or argv[hyp + 2].startswith("-"):
            argv.insert(hyp + 2, str(right.path))
        if "-O" not in argv:
            argv += ["-O", str(right.path.parent)]
        if "-n" not in argv:
            argv += ["-n", right.path.name]
        done = subprocess.run([str(real), *argv], capture_output=True, check=False)
    if notes:
        more = f"\n  ... and {len(notes) - _LISTED} more" if len(notes) > _LISTED else ""
        _note("made safe for sclite:\n  " + "\n  ".join(notes[:_LISTED]) + more)
    report = done.stdout.decode("utf-8", "surrogateescape")
    said = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode != 0:
        raise NotScored(
            f"sclite failed with status {done.returncode}: {(said or report.strip())[-200:]!r}"
        )
    totals = parse_totals(report)
    if totals is not None:
        _compare(totals.utterances, totals.counts.tokens, left, argv)
    if said:
        _note(said)
    return report


def _compare(utterances: int, tokens: int, ref: _Side, argv: Sequence[str]) -> None:
    if utterances != len(ref.ids):
        raise NotScored(f"sclite scored {utterances} of {len(ref.ids)} utterances")
    expected = sum(len(line) for line in ref.tokens)
    if _splits_non_ascii(argv):
        if "utf-8" not in argv:
            return  # then it splits bytes
        expected = sum(len(_NON_ASCII.findall(t)) for line in ref.tokens for t in line)
    elif _OTHER_TOKENS.intersection(argv):
        return
    if tokens != expected:
        raise NotScored(f"sclite counted {tokens} reference tokens of {expected}")


def _splits_non_ascii(argv: Sequence[str]) -> bool:
    """Whether ``-c NOASCII`` is asked for: each character outside ASCII becomes a word."""
    return any(a == "-c" and b == "NOASCII" for a, b in pairwise(argv))


def _safe_ids(ids: Sequence[str]) -> dict[str, str]:
    if not id_hazards(ids):
        return {key: key for key in ids}
    names, taken = {}, set()
    for key in ids:
        new = base = re.sub(r"[\s\x00-\x1f]", "_", key).translate({40: "[", 41: "]"}) or "empty"
        number = 2
        while new.lower() in taken:
            new, number = f"{base}.{number}", number + 1
        taken.add(new.lower())
        names[key] = new
    return names


def _safe_lines(side: _Side, names: dict[str, str], splits: bool) -> tuple[list[str], list[str]]:
    notes, lines = [], []
    for key, tokens in zip(side.ids, side.tokens, strict=True):
        out = []
        for token in tokens:
            # sclite splits such a token itself: what it then takes for words is made safe, each
            pieces = _NON_ASCII.findall(token) if splits else [token]
            for n, piece in enumerate(pieces):
                # other white space (no-break, ideographic) is part of a word to sclite: it may stay
                shown = "".join("_" if c.isspace() else c for c in piece)
                hazard = token_hazard(shown)
                if hazard:
                    notes.append(f"{side.path}: utterance {key!r}: {hazard}")
                    pieces[n] = safe_token(piece)
            out.append("".join(pieces))
        lines.append(f"{' '.join(out)}\t({names[key]})\n")
    return notes, lines


def _say_not_scored(reason: str) -> int:
    _note(f"not scored: {reason}")
    _write_out(not_scored_table(reason))
    return 0


def not_scored_table(reason: str) -> str:
    """Return a report of sclite's form whose Sum/Avg row says "not scored" (ESPnet's tables show it
    so)."""
    clean = " ".join(reason.replace("Avg", "avg").replace("SPKR", "speaker").split())
    return (
        f"not scored: {clean}\n\n"
        "       | SPKR   | # Snt # Wrd | Corr    Sub    Del    Ins    Err  S.Err |\n"
        "       |--------+-------------+-----------------------------------------|\n"
        "       | Sum/Avg|  not scored |    -      -      -      -      -      - |\n"
    )


def _write_out(report: str) -> None:
    sys.stdout.buffer.write(report.encode("utf-8", "surrogateescape"))
    sys.stdout.flush()


def _note(message: str) -> None:
    sys.stderr.write(f"sclite guard: {message}\n")


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (f", ... ({len(ids)} in all)" if len(ids) > 5 else "")
