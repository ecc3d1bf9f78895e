"""A guard before sclite: ESPnet's scoring stage runs to its end, and no figure is silently wrong.

ESPnet calls `sclite ... -r ref.trn trn -h hyp.trn trn -i rm -o all stdout > result.txt` under
`set -e`. The guard stands before the real program on PATH. It

* spells out what sclite would mis-read (`espnet_blora.scoring.trn`), alike in both files,
  and says so;
* refuses what cannot be scored (ids missing, doubled, shifted against the decoded text);
* compares the numbers of utterances and tokens, and the cost of sclite's alignments, with what
  they must be (`espnet_blora.scoring.sclite.Expected`);
* where there is no trustworthy figure (no sclite, a crash, a refusal) prints a table whose
  `Sum/Avg` row says "not scored", with the reason above it, and ends with status 0: our own
  scorer comes after and needs no sclite.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_blora.scoring.sclite import Expected, ScliteTotals, find_sclite, parse_totals
from espnet_blora.scoring.trn import safe_ids, safe_token, token_hazard, trn_line

_BLANK = " \t\r\v\f"  # what sclite takes for blanks
_BLANKS = re.compile(f"[{_BLANK}]+")
_ID = re.compile(r"\(([^()]*)\)\s*$")
_NON_ASCII = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]")  # what -c NOASCII makes of a token
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}  # all that sclite folds
_STRAY = frozenset(map(chr, range(0xDC80, 0xDD00)))  # bytes that are no UTF-8, as Python has them
_LISTED = 10
_PATIENCE = 3600  # seconds
# Options that leave alone what a word is, which words count and what an error costs.
_HARMLESS = {"-r", "-h", "-i", "-O", "-f", "-l", "-o", "-n", "-C"}


class NotScored(Exception):
    """There is no trustworthy figure; the message says why."""


@dataclass(frozen=True)
class _Reading:
    """How sclite reads words when it is called with certain options.

    Attributes:
        splits: each character outside ASCII becomes a word (`-e utf-8 -c NOASCII`).
        folds: A-Z are read as a-z (no `-s`).
        other: options whose effect on the figures is not known here: then they are not compared.
    """

    splits: bool
    folds: bool
    other: tuple[str, ...]

    @classmethod
    def of(cls, argv: Sequence[str]) -> _Reading:
        """Read the options; NotScored for an encoding in which a byte of a letter may be `{`."""
        given: dict[str, list[str]] = {}
        for word in argv:
            if word.startswith("-"):
                last = given.setdefault(word, [])
            elif given:
                last.append(word)
        encoding = given.pop("-e", [])
        if encoding and encoding[0] != "utf-8":
            raise NotScored(f"-e {encoding[0]}: only UTF-8 is read here; convert the texts to it")
        folds = given.pop("-s", None) is None
        by_character = given.pop("-c", None)
        other = [f"-e {' '.join(encoding)}"] if len(encoding) > 1 else []
        if by_character not in (None, ["NOASCII"]):
            other.append(f"-c {' '.join(by_character)}".strip())
        other += sorted(given.keys() - _HARMLESS)
        return cls(bool(encoding) and by_character == ["NOASCII"], folds, tuple(other))

    def fold(self, token: str) -> str:
        return token.translate(_LOWER) if self.folds else token

    def words(self, tokens: Sequence[str]) -> list[str]:
        """Return what sclite compares."""
        pieces = (p for t in tokens for p in _NON_ASCII.findall(t)) if self.splits else tokens
        return [self.fold(piece) for piece in pieces]


@dataclass
class _Side:
    """One `.trn` file: ids in file order and their tokens."""

    path: Path
    ids: list[str]
    tokens: list[list[str]]


def guard(argv: Sequence[str], real: Path | None = None, exclude: Sequence[Path] = ()) -> int:
    """Run sclite with these arguments, guarded; write its report to stdout and notes to stderr.

    Args:
        argv: sclite's arguments.
        real: the real sclite; by default the first one on PATH, in `tools/sctk`, or in Debian's
            place.
        exclude: what is not to be taken for the real sclite: the guard's own directory.

    Returns: 0 for a scored or a "not scored" table; sclite's own status for calls that compare no
        `.trn` files.
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
        if argv.count("-r") > 1 or argv.count("-h") > 1:
            raise NotScored("more than one file a side; call sclite once for each")
        reading = _Reading.of(argv)
        left, right = _read(argv[ref]), _read(argv[hyp])
        _check_pairs(left, right)
        _check_shift(right)
        _write_out(_score(real, list(argv), ref, hyp, left, right, reading))
    except (NotScored, OSError) as reason:
        return _say_not_scored(f"{argv[hyp]}: {reason}")
    return 0


_ABSENT = "there is no sclite here; get it with: make sclite (or apt-get install sctk)"


def _file_after(argv: Sequence[str], flag: str) -> int | None:
    """Return the place of the file name after `-r` or `-h` if its format is `trn`."""
    for n, word in enumerate(argv[:-2]):
        if word == flag and argv[n + 2] == "trn":
            return n + 1
    return None


def _read(name: str) -> _Side:
    path = Path(name)
    if not path.is_file():
        raise NotScored(f"{path}: no such file")
    ids, tokens = [], []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip(_BLANK):
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


def _lines(path: Path) -> list[str]:
    """Return the lines as sclite counts them; bytes that are no UTF-8 come out again as they came
    in."""
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    if text.startswith("\ufeff"):
        raise NotScored(f"{path}:1: byte order mark; save the file as UTF-8 without it")
    return text.split("\n")


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


def _check_shift(hyp: _Side) -> None:
    """ESPnet pastes ids beside decoded texts by line: a missing text shifts all that follow."""
    decoded = hyp.path.parent.parent / "text"
    if hyp.path.name != "hyp.trn" or not hyp.path.parent.name.startswith("score_"):
        return
    if not decoded.is_file():
        return
    keys = [_BLANKS.split(line, maxsplit=1)[0] for line in _lines(decoded)]
    if keys[-1] == "":
        keys.pop()
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


def _score(
    real: Path,
    argv: list[str],
    ref: int,
    hyp: int,
    left: _Side,
    right: _Side,
    reading: _Reading,
) -> str:
    names = safe_ids(left.ids)
    notes = [f"id {old!r} is written {new!r}" for old, new in names.items() if new != old]
    with tempfile.TemporaryDirectory(prefix="sclite_guard_") as box:
        for place, side in ((ref, left), (hyp, right)):
            safe = Path(box) / f"{place}.trn"
            changed, lines = _safe_lines(side, names, reading)
            notes += changed
            safe.write_text("".join(lines), "utf-8", "surrogateescape", newline="\n")
            argv[place] = str(safe)
        # the title keeps the report naming the user's file; output files go beside it, as sclite
        # does
        if hyp + 2 >= len(argv) or argv[hyp + 2].startswith("-"):
            argv.insert(hyp + 2, _no_row(str(right.path)))
        if "-O" not in argv:
            argv += ["-O", str(right.path.parent)]
        if "-n" not in argv:
            argv += ["-n", right.path.name]
        report = _run(real, argv)
        totals = _totals(report) or _totals(_run(real, [*_without_reports(argv), *_RAW_TOTALS]))
    if notes:
        more = f"\n  ... and {len(notes) - _LISTED} more" if len(notes) > _LISTED else ""
        _note("made safe for sclite:\n  " + "\n  ".join(notes[:_LISTED]) + more)
    _compare(totals, left, right, reading)
    return report


_RAW_TOTALS = ("-o", "rsum", "stdout")


def _run(real: Path, argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            [str(real), *argv], capture_output=True, check=False, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise NotScored(f"sclite did not end within {_PATIENCE} s") from None
    report = done.stdout.decode("utf-8", "surrogateescape")
    said = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode != 0:
        raise NotScored(
            f"sclite failed with status {done.returncode}: {(said or report.strip())[-200:]!r}"
        )
    if said:
        _note(said)
    return report


def _totals(report: str) -> ScliteTotals | None:
    try:
        return parse_totals(report)
    except ValueError as error:
        raise NotScored(str(error)) from error


def _without_reports(argv: Sequence[str]) -> list[str]:
    """Return the arguments without `-o` and what belongs to it."""
    kept, inside = [], False
    for word in argv:
        inside = word == "-o" or (inside and not word.startswith("-"))
        kept += [] if inside else [word]
    return kept


def _compare(totals: ScliteTotals | None, ref: _Side, hyp: _Side, reading: _Reading) -> None:
    if totals is None:
        raise NotScored("sclite printed no totals")
    if totals.utterances != len(ref.ids):
        raise NotScored(f"sclite scored {totals.utterances} of {len(ref.ids)} utterances")
    if reading.other:
        _note(f"not compared with a count of ours: {', '.join(reading.other)} changes what counts")
        return
    expected, heard = Expected(), dict(zip(hyp.ids, hyp.tokens, strict=True))
    for key, tokens in zip(ref.ids, ref.tokens, strict=True):
        expected.add(reading.words(tokens), reading.words(heard[key]))
    problems = expected.problems(totals)
    if problems:
        raise NotScored("; ".join(problems))


def _safe_lines(
    side: _Side, names: dict[str, str], reading: _Reading
) -> tuple[list[str], list[str]]:
    notes, lines = [], []
    for key, tokens in zip(side.ids, side.tokens, strict=True):
        out = []
        for token in tokens:
            # sclite splits such a token itself: what it then takes for words is made safe, each
            pieces = _NON_ASCII.findall(token) if reading.splits else [token]
            for n, piece in enumerate(pieces):
                if reading.splits and not piece.isascii():
                    # a letter, stays one; a stray byte becomes a letter of nobody's alphabet
                    pieces[n] = chr(ord(piece) + 0x100000) if piece in _STRAY else piece
                    continue
                # other white space (no-break, ideographic) is part of a word to sclite: it may stay
                shown = "".join("_" if c.isspace() and c > "\x7f" else c for c in piece)
                hazard = token_hazard(shown)
                if hazard or safe_token(shown) != shown:
                    named = f"{piece!r} looks like one of the guard's own names"
                    notes.append(f"{side.path}: utterance {key!r}: {hazard or named}")
                    pieces[n] = safe_token(reading.fold(piece))
            out.append("".join(pieces))
        lines.append(trn_line(out, names[key]))
    return notes, lines


def _say_not_scored(reason: str) -> int:
    _note(f"not scored: {reason}")
    _write_out(not_scored_table(reason))
    return 0


def not_scored_table(reason: str) -> str:
    """Return a report of sclite's form whose Sum/Avg row says "not scored" (ESPnet's tables show it
    so)."""
    clean = " ".join(_no_row(reason).split())
    return (
        f"not scored: {clean}\n\n"
        "       | SPKR   | # Snt # Wrd | Corr    Sub    Del    Ins    Err  S.Err |\n"
        "       |--------+-------------+-----------------------------------------|\n"
        "       | Sum/Avg|  not scored |    -      -      -      -      -      - |\n"
    )


def _no_row(text: str) -> str:
    """Return a text that ESPnet's `grep -e Avg -e SPKR` does not take for a row of the table."""
    return text.replace("Avg", "avg").replace("SPKR", "spkr")


def _write_out(report: str) -> None:
    sys.stdout.buffer.write(report.encode("utf-8", "surrogateescape"))
    sys.stdout.flush()


def _note(message: str) -> None:
    sys.stderr.write(f"sclite guard: {message}\n")


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (f", ... ({len(ids)} in all)" if len(ids) > 5 else "")
