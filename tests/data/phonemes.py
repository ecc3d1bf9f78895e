"""Phonemes of words, to find words of mini_cs that sound alike."""

import ctypes

from espnet_blora.data import espeak


def phonemes(text: str, language: str) -> str:
    """Return espeak-ng's ASCII names of the phonemes of `text`."""
    library = espeak._library()
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p

    def work() -> bytes:
        espeak._select(library, espeak.Run(text, language, "m1"))
        pointer = ctypes.c_char_p(text.encode())
        parts = []
        while pointer.value:
            parts.append(library.espeak_TextToPhonemes(ctypes.byref(pointer), espeak._UTF8, 0))
        return b" ".join(parts)

    return espeak._in_fork(work).decode()
