"""Whisper's token ids: which number is which token, for every multilingual size.

The text tokens are the same in all multilingual models; the control tokens behind them move by
one place with the number of languages (99 up to large-v2, 100 from large-v3 on), so an id taken
from the wrong layout is a valid but different token. Every id here is read from openai-whisper's
tokenizer; nothing is a literal.

Source: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision", section
2.3; openai-whisper `whisper/tokenizer.py`; the byte alphabet is GPT-2's (`encoder.py`,
`bytes_to_unicode`), which ESPnet's exported `tokens.txt` uses too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from whisper.tokenizer import LANGUAGES, TO_LANGUAGE_CODE, Tokenizer, get_tokenizer

N_PROMPT = 4
"""Tokens before the first text token: start, language, task, no-timestamps."""


@lru_cache(maxsize=1)
def _sizes() -> dict[int, int]:
    """Vocabulary size -> number of languages, for every multilingual layout."""
    return {
        get_tokenizer(multilingual=True, num_languages=n).encoding.n_vocab: n
        for n in (99, len(LANGUAGES))
    }


@lru_cache(maxsize=1)
def _alphabet() -> dict[int, str]:
    """GPT-2's map of the 256 bytes to printable, non-blank characters."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + len(table) - len(printable))
    return table


@lru_cache(maxsize=1)
def _bytes_of() -> dict[str, int]:
    return {character: byte for byte, character in _alphabet().items()}


@dataclass(frozen=True)
class Layout:
    """The token ids of one vocabulary size; made by `Layout.of`, equal sizes share one object."""

    n_vocab: int
    sot: int
    eot: int
    transcribe: int
    translate: int
    notimestamps: int
    timestamp_begin: int
    languages: dict[str, int]

    def __hash__(self) -> int:
        return hash(self.n_vocab)

    def __reduce__(self):
        return Layout.of, (self.n_vocab,)  # workers rebuild it instead of receiving the tables

    @classmethod
    def of(cls, n_vocab: int) -> Layout:
        """The layout of a model with `n_vocab` tokens (51,865 or 51,866 at present).

        Raises:
            ValueError: for an English-only model, or a size no multilingual Whisper has.
        """
        return _layout(int(n_vocab))

    @classmethod
    def of_tokens(cls, tokens: Sequence[str], where: str = "token_list") -> Layout:
        """The layout a token list was written for, checked token by token.

        Raises:
            ValueError: when the list is not exactly a Whisper vocabulary, naming the first line
                that differs.
        """
        if len(tokens) not in _sizes():
            raise ValueError(
                f"{where}: {len(tokens)} tokens, but Whisper's multilingual vocabularies have "
                f"{_or(_sizes())}. Write it anew with stage 5 (--token_type whisper_multilingual)."
            )
        layout = cls.of(len(tokens))
        for index, (found, wanted) in enumerate(zip(tokens, layout.token_list(), strict=True)):
            if found != wanted:
                raise ValueError(
                    f"{where}:{index + 1}: token {found!r}, but Whisper with {layout.n_vocab} "
                    f"tokens has {wanted!r} there. The file is damaged or was written by another "
                    "program: remove it and run stage 5 again."
                )
        return layout

    @property
    def stamp(self) -> str:
        """What the layout is, for logs and messages."""
        return f"whisper_multilingual, {self.n_vocab} tokens, {len(self.languages)} languages"

    @property
    def tokenizer(self) -> Tokenizer:
        """openai-whisper's tokenizer of this layout (shared)."""
        return get_tokenizer(multilingual=True, num_languages=len(self.languages))

    def language_code(self, language: str) -> str:
        """The code of a language given by code or English name ("zh", "chinese").

        Raises:
            ValueError: when this layout has no such language.
        """
        code = TO_LANGUAGE_CODE.get(language.lower(), language.lower())
        if code not in self.languages:
            if code in LANGUAGES:
                why = f"needs a larger vocabulary than this model's {self.n_vocab} tokens"
            else:
                why = "is not one of Whisper's language codes"
            raise ValueError(
                f"language {language!r} {why}; allowed: {' '.join(sorted(self.languages))}"
            )
        return code

    def prompt(self, language: str) -> list[int]:
        """[start of transcript, language, transcribe, no timestamps], `N_PROMPT` ids.

        Raises:
            ValueError: when this layout has no such language.
        """
        code = self.language_code(language)
        return [self.sot, self.languages[code], self.transcribe, self.notimestamps]

    def encode(self, text: str) -> list[int]:
        """Text -> text ids (all below `eot`; control tokens written in the text stay text)."""
        return self.tokenizer.encode(text, disallowed_special=())

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text; control tokens and timestamps are left out, broken UTF-8 becomes U+FFFD."""
        return self.tokenizer.encoding.decode([i for i in ids if 0 <= i < self.eot])

    def token_list(self) -> list[str]:
        """One printable, blank-free, unique string per id: what `tokens.txt` holds."""
        return list(_token_list(self.n_vocab))

    def readable_tokens(self) -> list[str]:
        """One string per id for logs: the text itself, a byte string where it is half a character.

        Not unique, and blanks are blanks (line breaks are not): never a `tokens.txt`.
        """
        names = []
        for index, token in enumerate(_token_list(self.n_vocab)):
            text = self.tokenizer.encoding.decode([index]) if index < self.eot else token
            names.append(text if text.isprintable() and "\ufffd" not in text else token)
        return names

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Ids -> token strings of `token_list`."""
        table = _token_list(self.n_vocab)
        return [table[i] for i in ids]

    def ids(self, tokens: Iterable[str]) -> list[int]:
        """Token strings of `token_list` -> ids.

        Raises:
            ValueError: for a string that is no token.
        """
        table = _token_ids(self.n_vocab)
        try:
            return [table[token] for token in tokens]
        except KeyError as error:
            raise ValueError(f"{error.args[0]!r} is no token of {self.stamp}") from error

    def text_of_tokens(self, tokens: Iterable[str]) -> str:
        """Token strings -> text, control tokens left out."""
        return self.decode(self.ids(tokens))


def _or(values: Iterable[object]) -> str:
    return " or ".join(str(value) for value in values)


@lru_cache(maxsize=4)
def _layout(n_vocab: int) -> Layout:
    sizes = _sizes()
    english_only = get_tokenizer(multilingual=False).encoding.n_vocab
    if n_vocab == english_only:
        raise ValueError(
            f"{n_vocab} tokens is an English-only Whisper, which has no language prompt. "
            "Use the multilingual model of that size (for example `small`, not `small.en`)."
        )
    if n_vocab not in sizes:
        raise ValueError(f"no multilingual Whisper has {n_vocab} tokens; known: {_or(sizes)}")
    tokenizer = get_tokenizer(multilingual=True, num_languages=sizes[n_vocab])
    codes = list(LANGUAGES)[: sizes[n_vocab]]
    return Layout(
        n_vocab=n_vocab,
        sot=tokenizer.sot,
        eot=tokenizer.eot,
        transcribe=tokenizer.transcribe,
        translate=tokenizer.translate,
        notimestamps=tokenizer.no_timestamps,
        timestamp_begin=tokenizer.timestamp_begin,
        languages={code: tokenizer.to_language_token(code) for code in codes},
    )


@lru_cache(maxsize=4)
def _token_list(n_vocab: int) -> tuple[str, ...]:
    layout = Layout.of(n_vocab)
    encoding = layout.tokenizer.encoding
    alphabet = _alphabet()
    return tuple(
        "".join(alphabet[byte] for byte in encoding.decode_single_token_bytes(index))
        if index < layout.eot
        else encoding.decode_single_token_bytes(index).decode("ascii")
        for index in range(n_vocab)
    )


@lru_cache(maxsize=4)
def _token_ids(n_vocab: int) -> dict[str, int]:
    return {token: index for index, token in enumerate(_token_list(n_vocab))}


def text_tokens_to_bytes(tokens: Iterable[str]) -> bytes:
    """The raw bytes behind text token strings (the inverse of the byte alphabet)."""
    table = _bytes_of()
    return bytes(table[character] for token in tokens for character in token)


def read_token_list(path: str | Path) -> list[str]:
    """Read `tokens.txt` the way ESPnet's `ASRTask.build_model` does (one token a line).

    Raises:
        FileNotFoundError: when there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no token list; stage 5 writes it")
    return [line.rstrip() for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
