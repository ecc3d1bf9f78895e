"""Whisper's language codes for the tags that corpora use (ISO 639, BCP 47, FLEURS)."""

from __future__ import annotations

import re

# Whisper's code, then other tags for the same language: ISO 639-3, ISO 639-2/B where it differs,
# the individual language that corpora name where ISO 639-3 has a macrolanguage, older tags.
_TABLE = """
en eng | zh zho chi cmn | de deu ger | es spa | ru rus | ko kor | fr fra fre | ja jpn | pt por
tr tur | pl pol | ca cat | nl nld dut | ar ara arb arz ary apc acm afb | sv swe | it ita | id ind
hi hin | fi fin | vi vie | he heb iw | uk ukr | el ell gre | ms msa may zsm | cs ces cze
ro ron rum | da dan | hu hun | ta tam | no nor nob nb | th tha | ur urd | hr hrv | bg bul | lt lit
la lat | mi mri mao | ml mal | cy cym wel | sk slk slo | te tel | fa fas per pes | lv lav lvs
bn ben | sr srp | az aze azj | sl slv | kn kan | et est ekk | mk mkd mac | br bre | eu eus baq
is isl ice | hy hye arm | ne nep npi | mn mon khk | bs bos | kk kaz | sq sqi alb als | sw swa swh
gl glg | mr mar | pa pan | si sin | km khm | sn sna | yo yor | so som | af afr | oc oci
ka kat geo | be bel | tg tgk | sd snd | gu guj | am amh | yi yid ydd | lo lao | uz uzb uzn
fo fao | ht hat | ps pus pbt | tk tuk | nn nno | mt mlt | sa san | lb ltz | my mya bur
bo bod tib | tl tgl fil | mg mlg plt | as asm | tt tat | haw | ln lin | ha hau | ba bak
jw jav jv | su sun | yue
"""
_CODES = {
    tag: group.split()[0] for group in _TABLE.replace("\n", "|").split("|") for tag in group.split()
}
_REGIONAL = {"zh-hk": "yue"}  # Common Voice's name for Cantonese

WHISPER_CODES: tuple[str, ...] = tuple(dict.fromkeys(_CODES.values()))


def whisper_code(tag: str) -> str | None:
    """Return Whisper's code for a language tag, or None if Whisper has no such language.

    >>> [whisper_code(tag) for tag in ("ara", "zh-CN", "cmn_hans_cn", "zh-HK", "rw")]
    ['ar', 'zh', 'zh', 'yue', None]

    Takes ISO 639-1 and 639-3 (`ar`, `ara`), Common Voice's locales (`zh-CN`) and FLEURS's
    (`cmn_hans_cn`). The region matters for Hong Kong's Chinese alone. Only large-v3 and
    large-v3-turbo know `yue`.
    """
    tag = tag.strip().lower().replace("_", "-")
    return _REGIONAL.get(tag) or _CODES.get(tag.partition("-")[0])


def prompt_code(tag: str, given: str | None = None) -> str:
    """Return the code of the prompt for a corpus of that tag: the user's `given`, or Whisper's.

    Raises:
        ValueError: Whisper lacks the language and none is given, or the code is malformed.
    """
    code = given or whisper_code(tag)
    if not code:
        raise ValueError(
            f"Whisper has no language for {tag!r}; give option language=CODE: one of its own "
            f"({', '.join(WHISPER_CODES)}) or one that you add to its vocabulary"
        )
    if not re.fullmatch("[a-z]{2,3}", code):
        raise ValueError(f"option language={code!r}; expected a code of 2 or 3 letters, as 'rw'")
    return code
