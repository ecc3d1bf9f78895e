"""Phonemes of words, to find words of mini_cs that sound alike."""

import ctypes
from collections.abc import Sequence

from espnet_blora.data import espeak


def phonemes(texts: Sequence[str], language: str) -> list[str]:
    """Return espeak-ng's ASCII names of the phonemes of each text, all from one fork."""
    library = espeak._library()
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p

    def work() -> bytes:
        espeak._select(library, espeak.Run(texts[0], language, "m1"))
        lines = []
        for text in texts:
            pointer = ctypes.c_char_p(text.encode())
            parts = []
            while pointer.value:
                parts.append(library.espeak_TextToPhonemes(ctypes.byref(pointer), espeak._UTF8, 0))
            lines.append(b" ".join(parts))
        return b"\n".join(lines)

    return espeak._in_fork(work).decode().split("\n")
