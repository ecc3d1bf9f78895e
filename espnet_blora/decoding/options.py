"""Decoding options: one record for every program, its checks, and its command line options.

A new option touches two files: this one (a field, its line under `Attributes:`, its group) and the
module where it acts. Programs, stage 12, the decoding yaml and the page of all decoding options
take it from here by its name.
"""

from __future__ import annotations

import argparse
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, fields
from typing import Any, Literal, NamedTuple, Self, get_args, get_origin, get_type_hints

from espnet_blora.utils.mistakes import did_you_mean


@dataclass(frozen=True)
class DecodingOptions:
    """How to decode. None stands for the default that the text names.

    Attributes:
        language: Code or name for all files (zh), a file of '<name without suffix> <code>' lines
            (utt2lang), or auto: detected in the first 30 s of each file (default: the training's
            language, else auto).
        task: translate: into English.
        initial_prompt: Text that stands before each piece: names, spelling, style.
        rule: Search as openai-whisper does, or as ESPnet does.
        beam_size: Hypotheses kept per utterance; 1 is greedy.
        nbest: Hypotheses returned per utterance.
        max_tokens: Tokens of a piece at most (default: half of the decoder's positions under rule
            whisper, maxlenratio under rule espnet).
        patience: Rule whisper: the search ends when beam_size * patience hypotheses have.
        length_penalty: Rule whisper: alpha in ((5 + length) / 6)^alpha, which divides the score
            (default: the length divides it).
        maxlenratio: Rule espnet: tokens per memory position at most; 0: one each, with ESPnet's
            end detection; below 0: that many tokens.
        minlenratio: Rule espnet: tokens per memory position at least; below 0: that many tokens.
        penalty: Rule espnet: added to the score for each token.
        normalize_length: Rule espnet: rank by score per token.
        suppress_tokens: Token ids with commas between them, -1 for symbols that are not spoken, ''
            for none (default: -1 under rule whisper, none under rule espnet).
        suppress_blank: Whether a text may neither begin with a blank nor be empty (default: under
            rule whisper).
        min_tokens: Tokens of a text at least.
        no_repeat_ngram_size: N-grams of so many tokens never come twice; 0: they may.
        temperature: Of sampling, 0 to 1; 0: the search's best text.
        temperature_increment_on_fallback: A doubtful text is sampled again at temperatures that
            rise by this much, up to 1; 0: it is not.
        compression_ratio_threshold: A text that zlib makes shorter by a larger factor is doubtful:
            it repeats itself; inf: none is.
        logprob_threshold: So is one whose tokens' mean log probability is below this; -inf: none.
        no_speech_threshold: A doubtful text by logprob_threshold is silence where the probability
            of no speech is above this; 1: none is.
        condition_on_previous_text: Whether a piece is prompted with the text before it; pieces are
            then decoded one by one.
        word_timestamps: When each word is said; segments then follow pauses and sentences.
        confidence: Probability of each word and piece, in the JSON.
        word_confidence: A word's confidence from its tokens' probabilities; mean: the geometric
            one.
        confidence_temperature: Logits are divided by it for confidences.
        samples: Draws from a Bayesian adapter's posterior that the search averages; 0: its mean.
        spread: Factor on the posterior's scales.
        seed: Seed of the draws, which all utterances share.
        batch_size: Utterances decoded together, each with one row per draw.
        chunk_length: Seconds of a piece at most (default: 30; of an experiment, as long as 19 of 20
            utterances of its training were at most, and pieces are put together up to their
            median length).
        drop_quiet: Whether pauses, silence, hum and steady noise never reach the model.

    Raises:
        ValueError: A value that is not allowed; names the option, its value and what is allowed.
    """

    language: str | Mapping[str, str] | None = None
    task: Literal["transcribe", "translate"] = "transcribe"
    initial_prompt: str | None = None

    rule: Literal["whisper", "espnet"] = "whisper"
    beam_size: int = 5
    nbest: int = 1
    max_tokens: int | None = None
    patience: float = 1.0
    length_penalty: float | None = None
    maxlenratio: float = 0.0
    minlenratio: float = 0.0
    penalty: float = 0.0
    normalize_length: bool = False

    suppress_tokens: str | None = None
    suppress_blank: bool | None = None
    min_tokens: int = 0
    no_repeat_ngram_size: int = 0

    temperature: float = 0.0
    temperature_increment_on_fallback: float = 0.2
    compression_ratio_threshold: float = 2.4
    logprob_threshold: float = -1.0
    no_speech_threshold: float = 0.6
    condition_on_previous_text: bool = False

    word_timestamps: bool = False
    confidence: bool = False
    word_confidence: Literal["product", "min", "mean"] = "product"
    confidence_temperature: float = 1.0
    samples: int = 0
    spread: float = 1.0
    seed: int = 0

    batch_size: int = 16
    chunk_length: float | None = None
    drop_quiet: bool = True

    def __post_init__(self) -> None:
        """Check each value."""
        wrong = [
            name
            for _, names, check in _LIMITS
            for name in names.split()
            if getattr(self, name) is not None and not check(getattr(self, name))
        ]
        wrong += [
            name for name in FIELDS if _choices(name) and getattr(self, name) not in _choices(name)
        ]
        wrong += ["patience"] if not wrong and round(self.beam_size * self.patience) < 1 else []
        if wrong:
            raise ValueError(_refusal(wrong[0], getattr(self, wrong[0])))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str = "decoding") -> Self:
        """Fill the record by field names, from a yaml or a command line.

        >>> DecodingOptions.from_mapping({"beam_size": "3", "penalty": 1}).penalty
        1.0

        Args:
            values: Name -> value, or a text of it.
            where: What holds them, for messages.

        Raises:
            ValueError: A name that is not a field, or a value that is not allowed.
        """
        parsed = {}
        for name, value in values.items():
            if name not in FIELDS:
                raise ValueError(
                    f"{where}: {name!r} is not a decoding option{did_you_mean(name, FIELDS)}"
                )
            try:
                parsed[name] = _parsed(name, value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{where}: {_refusal(name, value)}") from error
        return cls(**parsed)

    @classmethod
    def from_namespace(cls, options: argparse.Namespace) -> Self:
        """Fill the record from those options of a program that are fields and not None."""
        values = vars(options).items()
        return cls.from_mapping({n: v for n, v in values if n in FIELDS and v is not None})


GROUPS = {
    "text": ("language", "task", "initial_prompt"),
    "search": ("rule", "beam_size", "nbest", "max_tokens", "patience", "length_penalty",
               "maxlenratio", "minlenratio", "penalty", "normalize_length"),
    "filters": ("suppress_tokens", "suppress_blank", "min_tokens", "no_repeat_ngram_size"),
    "fallback": ("temperature", "temperature_increment_on_fallback", "compression_ratio_threshold",
                 "logprob_threshold", "no_speech_threshold", "condition_on_previous_text"),
    "times and confidence": ("word_timestamps", "confidence", "word_confidence",
                             "confidence_temperature", "samples", "spread", "seed"),
    "batches": ("batch_size", "chunk_length", "drop_quiet"),
}  # fmt: skip
"""The options by group, for help pages and for programs that offer a part of them."""

SEARCH = GROUPS["search"] + GROUPS["filters"]
"""What a decoding yaml may hold."""

FIELDS: dict[str, Field] = {known.name: known for known in fields(DecodingOptions)}
_HINTS = get_type_hints(DecodingOptions)

_LIMITS: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("1 or more", "beam_size nbest max_tokens batch_size", lambda value: value >= 1),
    ("0 or more", "min_tokens no_repeat_ngram_size samples", lambda value: value >= 0),
    ("a finite number", "maxlenratio minlenratio penalty", math.isfinite),
    ("a finite number, 0 or more", "spread", lambda value: 0 <= value < math.inf),
    ("a finite number above 0", "confidence_temperature", lambda value: 0 < value < math.inf),
    ("1 / beam_size or more, finite", "patience", lambda value: 0 < value < math.inf),
    (
        "0 to 1",
        "length_penalty temperature temperature_increment_on_fallback no_speech_threshold",
        lambda value: 0 <= value <= 1,
    ),
    ("a number", "compression_ratio_threshold logprob_threshold", lambda value: value == value),
    ("1 to 30", "chunk_length", lambda value: 1 <= value <= 30),
)
"""Allowed values in words, the options that they hold for, and their check."""


class OptionHelp(NamedTuple):
    """What a page of documentation says of one option."""

    name: str
    group: str
    type: str
    default: Any
    allowed: str
    help: str


def describe_options() -> list[OptionHelp]:
    """Return every decoding option, in the order of the record."""
    block = inspect.cleandoc(DecodingOptions.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*\n(?:     +.*\n)*)", block, re.MULTILINE)
    helps = {name: " ".join(text.split()) for name, text in entries}
    return [
        OptionHelp(
            name, group, _kind(name).__name__, FIELDS[name].default, _allowed(name), helps[name]
        )
        for group, names in GROUPS.items()
        for name in names
    ]


def add_options(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    names: Iterable[str],
    **defaults: Any,
) -> None:
    """Add decoding options to a program.

    Args:
        parser: The program's parser, or a group of it.
        names: The fields that it offers.
        defaults: Other defaults than the fields', by name.
    """
    helps = {option.name: option.help for option in describe_options()}
    for name in names:
        how: dict[str, Any] = {"type": parser_of(name)}
        how["default"] = defaults.get(name, FIELDS[name].default)
        if how["default"] is False:
            how = {"action": "store_true"}
        elif _choices(name):
            how["choices"] = _choices(name)
        parser.add_argument(f"--{name}", help=helps[name], **how)


def parser_of(name: str) -> Callable[[str], Any]:
    """Return the function that reads an option's value from text."""
    return flag if _kind(name) is bool else _kind(name)


def flag(text: str) -> bool:
    """Read a truth value.

    >>> flag("yes"), flag("0")
    (True, False)

    Raises:
        ValueError: The text is not one.
    """
    value = text.strip().lower()
    if value in ("true", "t", "1", "yes", "y", "on"):
        return True
    if value in ("false", "f", "0", "no", "n", "off"):
        return False
    raise ValueError(f"{text!r} is not a truth value")


def _choices(name: str) -> tuple[str, ...]:
    """Return the values to choose from; none where it is no choice."""
    hint = _HINTS[name]
    return get_args(hint) if get_origin(hint) is Literal else ()


def _kind(name: str) -> type:
    """Return the type that a text of the option is read as."""
    return str if _choices(name) else next(iter(get_args(_HINTS[name])), _HINTS[name])


def _parsed(name: str, value: Any) -> Any:
    """Return a value as its field has it; ValueError or TypeError where that cannot be."""
    kind = _kind(name)
    if (value is None and FIELDS[name].default is None) or isinstance(value, Mapping):
        return value
    if kind is bool:
        return value if isinstance(value, bool) else flag(value)
    if isinstance(value, bool) or (kind is int and isinstance(value, float) and value % 1):
        raise ValueError
    return kind(value)


def _allowed(name: str) -> str:
    """Return the words for an option's allowed values."""
    kinds = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    limits = (words for words, names, _ in _LIMITS if name in names.split())
    return next(limits, " or ".join(_choices(name)) or kinds[_kind(name)])


def _refusal(name: str, value: Any) -> str:
    return f"{name} is {value!r}; allowed: {_allowed(name)}"
