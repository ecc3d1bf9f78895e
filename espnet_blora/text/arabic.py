"""Variants of Arabic writing that comparisons may ignore, one flag per kind of difference.

Marks: the vowel signs U+064B..0652, U+0656..065F, U+0670; the honorific and Quranic ones
U+0610..061A and those of U+06D6..06ED; the extended ones U+0897..089F and U+08CA..08FF. The
combining madda and hamza U+0653..0655 are part of a letter and do not belong here.

Source of the letters' foldings: CAMeL tools' `normalize_alef_ar` (with `dediac_ar`, what is
usual for ArzEn), `normalize_alef_maksura_ar` and `normalize_teh_marbuta_ar`.
"""

from __future__ import annotations

TATWEEL = "\u0640"
MARKS = frozenset(
    chr(code)
    for first, last in (
        (0x0610, 0x061A),
        (0x064B, 0x0652),
        (0x0656, 0x065F),
        (0x0670, 0x0670),
        (0x06D6, 0x06DC),
        (0x06DF, 0x06E4),
        (0x06E7, 0x06E8),
        (0x06EA, 0x06ED),
        (0x0897, 0x089F),
        (0x08CA, 0x08E1),
        (0x08E3, 0x08FF),
    )
    for code in range(first, last + 1)
)
ALEF = dict.fromkeys("\u0623\u0625\u0622\u0671\u0672\u0673", "\u0627")  # hamza, madda, wasla
ALEF_MAKSURA = {"\u0649": "\u064a"}
TEH_MARBUTA = {"\u0629": "\u0647"}
HAMZA = {"\u0624": "\u0648", "\u0626": "\u064a"}  # on waw, on yeh; the bare hamza stays
