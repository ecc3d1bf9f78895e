r"""Safe `.trn` files for NIST's sclite: every word is read as it stands, or spelt out by name.

sclite gives meaning to characters that are plain text elsewhere, mostly without a word. Measured on
SCTK 2.4.10 (Debian) by scoring identical and slightly different lines; 2.4.12 behaves alike unless
said:

=====================  =========================================================================
in a `.trn` line     what sclite does
=====================  =========================================================================
`{ a / b }`          alternation: `p { a / b } q` counts 3 words, not 7
`{` before words     swallows the rest of the line, rc 0: `a { b c d` counts 1 word
`{` in a token       segmentation fault (`M^{ME}`, `x{`)
token `@`            a word that is never counted
`;` in a token       the word ends there: `x;y` = `x;z` = `x`
line `;;`, `**`    a comment: the utterance is gone, or rc 1
trailing `*`         removed: `foo*` = `foo` (a leading one stays)
`\`                  removed: `a\b` = `ab`
NUL                    the line ends there: its id is gone
NBSP, U+3000           part of a word, where Python's `split` cuts
bytes not UTF-8        with `-e utf-8` rc 1, or the next blank is swallowed, rc 0
1,000-byte tokens      may print without end; 500 bytes take 0.1 s
id with `(`          mis-read, adds a word; a blank inside an id stays
ids                    folded to lower case (without `-s`): a collision is rc 1, as is a double
letters                A-Z folded to a-z (without `-s`), no other letter is
hyp. without ref.      rc 1
ref. without hyp.      **ignored, rc 0**: the rate is over fewer utterances
two empty files        segmentation fault
`-c NOASCII`         splits every letter outside ASCII: right for Chinese, wrong for `über`
=====================  =========================================================================

`}`, `/`, `%w`, `<tag>`, every other ASCII sign, other control characters, empty lines and
every other Unicode character count as they stand.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_blora.utils import atomic

MAX_TOKEN = 500  # bytes of UTF-8; at 1,000 sclite 2.4.10 prints without end
_NAMES = {"{": "<lbrace>", "}": "<rbrace>", ";": "<semicolon>", "\\": "<backslash>"}
_CODE = re.compile(r"[\x00-\x20\x7f\ud800-\udfff]|[^\S\x00-\x7f]")  # control, blanks, no UTF-8
# A text that holds a name of ours keeps apart from what the name stands for: "<at>" = "<lt>at>".
_OWN = re.compile(
    r"<(?=(?:lt|at|asterisk|lbrace|rbrace|semicolon|backslash|u[0-9a-f]{4,6}"
    r"|[0-9]+-characters-[0-9a-f]{16})>)",
    re.IGNORECASE | re.ASCII,
)
_SUSPECT = re.compile(r"[{};\\@*<\x00-\x20\x7f\ud800-\udfff]|[^\S\x00-\x7f]")


@dataclass(frozen=True)
class Hazard:
    """One thing in a text or id that sclite would read otherwise than it stands."""

    id: str
    what: str

    def __str__(self) -> str:
        return f"utterance {self.id!r}: {self.what}"


def token_hazard(token: str) -> str | None:
    """Say what sclite would do to a token, or None if nothing.

    It does not depend on the place in the line: else a token would be spelt out on one side only.
    """
    if len(token) <= MAX_TOKEN // 4 and not _SUSPECT.search(token):
        return None
    if token == "@":
        return "token '@' would not be counted"
    if "{" in token or "}" in token:
        return f"brace in {_short(token)}: alternation, or a crash"
    if ";" in token:
        return f"';' in {_short(token)}: the word would end there, or the line be a comment"
    if "\\" in token:
        return f"backslash in {_short(token)} would be removed"
    if token.endswith("*") or token.startswith("*"):
        return f"'*' at an end of {_short(token)}: removed, or the line read as a comment"
    if _CODE.search(token):
        return f"control character, blank or byte that is no UTF-8 in {_short(token)}"
    if len(_bytes(token)) > MAX_TOKEN:
        return f"token of {len(_bytes(token))} bytes (at most {MAX_TOKEN}): sclite would hang"
    return None


def safe_token(token: str) -> str:
    """Return a token that sclite leaves alone: hazards are spelt out in ASCII, `{` as
    `<lbrace>`.

    Equal tokens stay equal and different ones different (a text's own `<lbrace>` becomes
    `<lt>lbrace>`); of a token too long stay its beginning, length and a digest.
    """
    if len(token) <= MAX_TOKEN // 4 and not _SUSPECT.search(token):
        return token
    if token == "@":
        return "<at>"
    token = _OWN.sub("<lt>", token)
    for char, name in _NAMES.items():
        token = token.replace(char, name)
    before = len(token) - len(token.lstrip("*"))
    after = len(token) - max(before, len(token.rstrip("*")))
    middle = token[before : len(token) - after]
    token = "<asterisk>" * before + middle + "<asterisk>" * after
    token = _CODE.sub(lambda m: f"<u{ord(m.group()):04x}>", token)
    if len(_bytes(token)) > MAX_TOKEN:
        digest = hashlib.sha256(_bytes(token)).hexdigest()[:16]
        token = f"{token[:30]}<{len(token)}-characters-{digest}>"
    return token


def id_hazards(ids: Iterable[str]) -> list[Hazard]:
    """Return what sclite would mis-read in utterance ids: parentheses, blanks, bytes that are no
    UTF-8, ids equal but for case."""
    found, seen = [], {}
    for key in ids:
        if not key or "(" in key or ")" in key or _CODE.search(key):
            found.append(
                Hazard(key, "an id must be UTF-8 without parentheses and blanks, and not be empty")
            )
        folded = key.lower()
        if folded in seen:
            found.append(Hazard(key, f"the id differs by case only from {seen[folded]!r}"))
        seen.setdefault(folded, key)
    return found


def safe_ids(ids: Iterable[str]) -> dict[str, str]:
    """Return id -> an id of its own that sclite leaves alone; all stay as they are if they can."""
    ids = list(ids)
    if not id_hazards(ids):
        return {key: key for key in ids}
    names, taken = {}, set()
    for key in ids:
        new = base = _CODE.sub("_", key).replace("(", "[").replace(")", "]") or "empty"
        number = 2
        while new.lower() in taken:
            new, number = f"{base}.{number}", number + 1
        taken.add(new.lower())
        names[key] = new
    return names


def trn_line(tokens: Iterable[str], key: str) -> str:
    """Return `token token ...<TAB>(id)` and a line feed; tokens and id are taken as they are."""
    return f"{' '.join(tokens)}\t({key})\n"


def write_trn(
    path: str | Path, tokens: Mapping[str, Sequence[str]], on_hazard: str = "reject"
) -> list[Hazard]:
    """Write one line an utterance, sorted by id, that sclite reads as it stands.

    Args:
        tokens: id -> tokens.
        on_hazard: `"reject"` raises, `"map"` spells hazards out (`safe_token`) and
            returns them. Write both sides with `"map"`, or neither.

    Raises: ValueError naming each utterance (up to 10) and hazard; hazards of ids always raise, and
        no file is left.
    """
    if on_hazard not in ("reject", "map"):
        raise ValueError(f"on_hazard must be 'reject' or 'map', found {on_hazard!r}")
    path, bad_ids = Path(path), id_hazards(sorted(tokens))
    hazards = []
    with atomic.writing(path, "w") as file:
        for key in sorted(tokens):
            line = tokens[key]
            hazards += [Hazard(key, what) for what in map(token_hazard, line) if what]
            if on_hazard == "map":
                line = [safe_token(token) for token in line]
            elif hazards:
                continue
            file.write(trn_line(line, key))
        if bad_ids or (hazards and on_hazard == "reject"):
            listed = "\n  ".join(str(h) for h in [*bad_ids, *hazards][:10])
            raise ValueError(
                f"{path}: {len(bad_ids) + len(hazards)} places that sclite would mis-read; rename "
                f"the ids, or write with on_hazard='map':\n  {listed}"
            )
    return hazards


def _bytes(token: str) -> bytes:
    return token.encode("utf-8", "surrogateescape")


def _short(token: str) -> str:
    return repr(token if len(token) <= 40 else token[:37] + "...")
