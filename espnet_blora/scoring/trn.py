r"""Safe tokens and ids for `.trn` files of NIST's sclite: hazards are spelled out by name.

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
from collections.abc import Iterable, Sequence

MAX_TOKEN = 500  # bytes of UTF-8; at 1,000 sclite 2.4.10 prints without end
_NAMES = str.maketrans({"{": "<lbrace>", "}": "<rbrace>", ";": "<semicolon>", "\\": "<backslash>"})
_OUTER_ASTERISKS = re.compile(r"\A\*+|\*+\Z")
_CODE = re.compile(r"[\x00-\x20\x7f\ud800-\udfff]|[^\S\x00-\x7f]")  # control, blanks, no UTF-8
_SAFE_ID = re.compile(rf"(?:(?!{_CODE.pattern})[^()])+")
# A text that holds a name of ours keeps apart from what the name stands for: "<at>" = "<lt>at>".
_OWN = re.compile(
    r"<(?=(?:lt|at|asterisk|lbrace|rbrace|semicolon|backslash|u[0-9a-f]{4,6}"
    r"|[0-9]+-characters-[0-9a-f]{16})>)",
    re.IGNORECASE | re.ASCII,
)
_SUSPECT = re.compile(r"[{};\\@*<\x00-\x20\x7f\ud800-\udfff]|[^\S\x00-\x7f]")


def safe_token(token: str) -> str:
    """Return a token that sclite leaves alone: hazards are spelled out in ASCII.

    Equal tokens stay equal and different ones different (a text's own `<lbrace>` becomes
    `<lt>lbrace>`); a token that is too long keeps its beginning, its length and a digest. The place
    in the line does not matter, else a token would be spelled out on one side only.

    >>> safe_token("a{b"), safe_token("@"), safe_token("plain")
    ('a<lbrace>b', '<at>', 'plain')
    """
    if len(token) <= MAX_TOKEN // 4 and not _SUSPECT.search(token):
        return token
    if token == "@":
        return "<at>"
    token = _OWN.sub("<lt>", token)
    token = token.translate(_NAMES)
    token = _OUTER_ASTERISKS.sub(lambda match: "<asterisk>" * len(match[0]), token)
    token = _CODE.sub(lambda m: f"<u{ord(m.group()):04x}>", token)
    encoded = token.encode("utf-8")
    if len(encoded) > MAX_TOKEN:
        digest = hashlib.sha256(encoded).hexdigest()[:16]
        token = f"{token[:30]}<{len(token)}-characters-{digest}>"
    return token


def safe_ids(ids: Sequence[str]) -> dict[str, str]:
    """Return id -> an id of its own that sclite leaves alone; all stay as they are if they can.

    sclite misreads parentheses, blanks, bytes that are not UTF-8, and ids that differ by case only.

    >>> safe_ids(["spk-a", "spk-b"])
    {'spk-a': 'spk-a', 'spk-b': 'spk-b'}
    >>> safe_ids(["a(1)", "A[1]"])
    {'a(1)': 'a[1]', 'A[1]': 'A[1].2'}
    """
    if all(map(_SAFE_ID.fullmatch, ids)) and len({key.lower() for key in ids}) == len(ids):
        return {key: key for key in ids}
    names: dict[str, str] = {}
    taken: set[str] = set()
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
