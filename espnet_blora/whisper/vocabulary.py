"""Whisper's token ids: which number is which token, for every multilingual size.

The text tokens are the same in all multilingual models; the control tokens behind them move by
one place with the number of languages (99 up to large-v2, 100 from large-v3 on), so an id taken
from the wrong layout is a valid but different token. Every id here is read from openai-whisper's
tokenizer; nothing is a literal.

Languages that Whisper lacks get ids of their own behind the published vocabulary, one each. They
stand in prompts only: a model never says them (`espnet_blora.whisper.new_tokens`).

Source: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision", section
2.3; openai-whisper `whisper/tokenizer.py`; the byte alphabet is GPT-2's (`encoder.py`,
`bytes_to_unicode`), which ESPnet's exported `tokens.txt` uses too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from whisper.tokenizer import LANGUAGES, TO_LANGUAGE_CODE, Tokenizer, get_tokenizer

N_PROMPT = 4
"""Tokens before the first text token: start, language, task, no-timestamps."""


@lru_cache(maxsize=1)
def _sizes() -> dict[int, int]:
    """Return vocabulary size -> number of languages, for every multilingual layout."""
    fewest = 99
    tokenizer = get_tokenizer(multilingual=True, num_languages=fewest)
    return {tokenizer.encoding.n_vocab - fewest + n: n for n in (fewest, len(LANGUAGES))}


@lru_cache(maxsize=1)
def _alphabet() -> dict[int, str]:
    """GPT-2's map of the 256 bytes to printable, non-blank characters."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + len(table) - len(printable))
    return table


def count_tokens(text: str) -> int:
    """Return how many ids a text has; they are the same in every multilingual size."""
    return len(Vocabulary.of(min(_sizes())).encode(text))


@dataclass(frozen=True)
class Vocabulary:
    """The token ids of one vocabulary; made by `Vocabulary.of`, equal ones share one object.

    Attributes:
        n_vocab: Ids that the checkpoint has, and that a model can say.
        sot: Start of transcript.
        eot: End of text.
        transcribe: The task of transcription.
        translate: The task of translation into English.
        notimestamps: No timestamps.
        timestamp_begin: The first timestamp.
        languages: Code -> id, those of `new_languages` among them, from `n_vocab` on.
        new_languages: Codes of languages that were added, in the order of their ids.
    """

    n_vocab: int
    sot: int
    eot: int
    transcribe: int
    translate: int
    notimestamps: int
    timestamp_begin: int
    languages: dict[str, int]
    new_languages: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash((self.n_vocab, self.new_languages))

    def __reduce__(self):
        # workers rebuild it instead of receiving the tables
        return Vocabulary.of, (self.n_vocab, self.new_languages)

    @classmethod
    def of(cls, n_vocab: int, new_languages: Iterable[str] = ()) -> Vocabulary:
        """Return the vocabulary of a model with `n_vocab` tokens (51,865 or 51,866 at present).

        Args:
            n_vocab: number of tokens of the checkpoint.
            new_languages: codes of languages added to it, in the order of their ids.

        Raises:
            ValueError: for an English-only model, a size no multilingual Whisper has, or a new
                language that is not a code, is named twice or is known to the model already.
        """
        return _vocabulary(int(n_vocab), tuple(new_languages))

    @classmethod
    def of_tokens(cls, tokens: Sequence[str], where: str = "token_list") -> Vocabulary:
        """Return the vocabulary that a token list was written for, checked token by token.

        Raises:
            ValueError: when the list is not exactly a Whisper vocabulary, naming the first line
                that differs.
        """
        tokens = tuple(tokens)
        agreeing: dict[int, int] = {}
        for n in sorted(_sizes(), key=lambda n: n != len(tokens)):
            agreeing[n] = _agreeing(tokens, _token_list(n))
            if agreeing[n] == n:
                break  # the other list, which takes as long to make, need not be looked at
        # the list that it begins with; else the one of its length, else the likeliest
        base = max(agreeing, key=lambda n: (agreeing[n] == n, n == len(tokens), agreeing[n]))
        vocabulary = cls.of(base)
        rest = tokens[base:]
        if len(tokens) < base or (rest and not _NEW.fullmatch(rest[0])):
            raise ValueError(
                f"{where}: {len(tokens)} tokens, but Whisper's multilingual vocabularies have "
                f"{_or(_sizes())}, and tokens of new languages behind them. Write it anew with "
                "stage 5 (--token_type whisper_multilingual)."
            )
        if (index := agreeing[base]) < base:
            raise ValueError(
                f"{where}:{index + 1}: token {tokens[index]!r}, but Whisper with {base} tokens has "
                f"{_token_list(base)[index]!r} there. The file is damaged or was written by "
                "another program: remove it and run stage 5 again."
            )
        for number, token in enumerate(rest, base + 1):
            if not _NEW.fullmatch(token):
                raise ValueError(
                    f"{where}:{number}: token {token!r}; behind Whisper's {base} tokens only those "
                    "of new languages may stand, as <|rw|>: remove the file and run stage 5 again."
                )
        return cls.of(base, [token[2:-2] for token in rest]) if rest else vocabulary

    @property
    def stamp(self) -> str:
        """A description for logs and messages."""
        known = len(self.languages) - len(self.new_languages)
        new = f", new: {' '.join(self.new_languages)}" if self.new_languages else ""
        return f"whisper_multilingual, {self.n_vocab} tokens, {known} languages{new}"

    @property
    def size(self) -> int:
        """Number of ids, those of new languages included: the length of `token_list`."""
        return self.n_vocab + len(self.new_languages)

    @property
    def tokenizer(self) -> Tokenizer:
        """openai-whisper's tokenizer of this layout (shared)."""
        return get_tokenizer(multilingual=True, num_languages=_sizes()[self.n_vocab])

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
                f"language {language!r} {why}; allowed: {' '.join(sorted(self.languages))}; "
                "or add it: --new_languages of run.sh, --new-languages of espnet_blora.run"
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

    def line(self, ids: Iterable[int]) -> str:
        """Ids -> text as one line of a Kaldi file: blanks of any kind become one space."""
        return " ".join(self.decode(ids).split())

    def token_list(self) -> list[str]:
        """One printable, blank-free, unique string per id: what `tokens.txt` holds."""
        return list(_token_list(self.n_vocab, self.new_languages))

    def readable_tokens(self) -> list[str]:
        """One string per id for logs: the text itself, a byte string where it is half a character.

        Not unique, and blanks are blanks (line breaks are not): never a `tokens.txt`.
        """
        names = []
        for index, token in enumerate(_token_list(self.n_vocab, self.new_languages)):
            text = self.tokenizer.encoding.decode([index]) if index < self.eot else token
            names.append(text if text.isprintable() and "\ufffd" not in text else token)
        return names

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Ids -> token strings of `token_list`."""
        table = _token_list(self.n_vocab, self.new_languages)
        return [table[i] for i in ids]

    def ids(self, tokens: Iterable[str]) -> list[int]:
        """Token strings of `token_list` -> ids.

        Raises:
            ValueError: for a string that is not a token.
        """
        table = _token_ids(self.n_vocab, self.new_languages)
        try:
            return [table[token] for token in tokens]
        except KeyError as error:
            raise ValueError(f"{error.args[0]!r} is not a token of {self.stamp}") from error


_CODE = re.compile("[a-z]{2,3}")
_NEW = re.compile(rf"<\|{_CODE.pattern}\|>")


def _or(values: Iterable[object]) -> str:
    return " or ".join(str(value) for value in values)


def _agreeing(tokens: Sequence[str], expected: Sequence[str]) -> int:
    """Return how many tokens at the beginning are the expected ones."""
    if tokens[: len(expected)] == expected:
        return len(expected)
    # not strict: a list that ends early agrees as far as it goes
    pairs = enumerate(zip(tokens, expected, strict=False))
    return next((i for i, (one, other) in pairs if one != other), len(tokens))


@lru_cache(maxsize=32)
def _vocabulary(n_vocab: int, new_languages: tuple[str, ...]) -> Vocabulary:
    sizes = _sizes()
    if n_vocab not in sizes:
        if n_vocab == get_tokenizer(multilingual=False).encoding.n_vocab:
            raise ValueError(
                f"{n_vocab} tokens is an English-only Whisper, which has no language prompt. "
                "Use the multilingual model of that size (for example `small`, not `small.en`)."
            )
        raise ValueError(f"no multilingual Whisper has {n_vocab} tokens; known: {_or(sizes)}")
    tokenizer = get_tokenizer(multilingual=True, num_languages=sizes[n_vocab])
    codes = list(LANGUAGES)[: sizes[n_vocab]]
    languages = {code: tokenizer.to_language_token(code) for code in codes}
    for code in new_languages:
        if not _CODE.fullmatch(code):
            raise ValueError(f"new language {code!r}: a code of 2 or 3 letters a-z is expected")
        if code in languages:
            twice = code not in codes
            why = "is named twice" if twice else "is one that this Whisper has: leave it out"
            raise ValueError(f"new language {code!r} {why}")
        languages[code] = n_vocab + len(languages) - len(codes)
    return Vocabulary(
        n_vocab=n_vocab,
        sot=tokenizer.sot,
        eot=tokenizer.eot,
        transcribe=tokenizer.transcribe,
        translate=tokenizer.translate,
        notimestamps=tokenizer.no_timestamps,
        timestamp_begin=tokenizer.timestamp_begin,
        languages=languages,
        new_languages=new_languages,
    )


@lru_cache(maxsize=8)
def _token_list(n_vocab: int, new_languages: tuple[str, ...] = ()) -> tuple[str, ...]:
    if new_languages:
        return (*_token_list(n_vocab), *(f"<|{code}|>" for code in new_languages))
    vocabulary = Vocabulary.of(n_vocab)
    encoding = vocabulary.tokenizer.encoding
    raw = [encoding.decode_single_token_bytes(index) for index in range(n_vocab)]
    # one character per byte, all tokens at once; the separator is not a byte's character
    text = "\u2028".join(token.decode("latin-1") for token in raw[: vocabulary.eot])
    return (
        *text.translate(_alphabet()).split("\u2028"),
        *(token.decode("ascii") for token in raw[vocabulary.eot :]),
    )


@lru_cache(maxsize=8)
def _token_ids(n_vocab: int, new_languages: tuple[str, ...]) -> dict[str, int]:
    return {token: index for index, token in enumerate(_token_list(n_vocab, new_languages))}


def read_token_list(path: str | Path) -> list[str]:
    """Read `tokens.txt` the way ESPnet's `ASRTask.build_model` does (one token per line).

    Raises:
        FileNotFoundError: when there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no token list; stage 5 writes it")
    return [line.rstrip() for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
