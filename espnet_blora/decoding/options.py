"""Decoding options: one record for every program, its checks, and its command line options.

A new option touches two files: its field below, and the module where it acts. `transcribe` and
stage 12 offer it, `sweep` and `confidence` take it from the decoding yaml, and the page of all
decoding options lists it, by the field's name, type, default and help.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, NamedTuple, Self

from espnet_blora.utils.mistakes import did_you_mean

GROUPS = {
    "text": "text",
    "search": "search",
    "filters": "what may not be said",
    "words": "times and confidence",
    "batches": "batches",
}
"""Groups of options with their titles."""

RULES = ("whisper", "espnet")
TASKS = ("transcribe", "translate")
WORD_CONFIDENCES = ("product", "min", "mean")


def _option(
    group: str,
    default: Any,
    kind: type,
    help: str,
    choices: tuple[str, ...] = (),
    allowed: str = "",
    check: Callable[[Any], bool] | None = None,
) -> Any:
    """Return a dataclass field that also knows how it is read, checked and explained."""
    if choices:
        allowed, check = " or ".join(choices), choices.__contains__
    about = {"group": group, "kind": kind, "help": help, "choices": choices}
    return field(default=default, metadata=about | {"allowed": allowed, "check": check})


_at_least_0 = {"allowed": "0 or more", "check": lambda value: value >= 0}
_at_least_1 = {"allowed": "1 or more", "check": lambda value: value >= 1}
_above_0 = {"allowed": "a finite number above 0", "check": lambda value: 0 < value < math.inf}
_finite_at_least_0 = {"allowed": "a finite number, 0 or more", "check": lambda v: 0 <= v < math.inf}
_finite = {"allowed": "a finite number", "check": math.isfinite}


@dataclass(frozen=True)
class DecodingOptions:
    """How to decode. None stands for what the help names, or for the rule's own default.

    Raises:
        ValueError: a value that is not allowed; names the option, its value and what is allowed.
    """

    language: str | Mapping[str, str] | None = _option(
        "text", None, str,
        "code or name for all files (zh), a file of '<name without suffix> <code>' lines "
        "(utt2lang), or auto: detected in the first 30 s of each file (default: the training's, "
        "else auto)",
    )  # fmt: skip
    task: str = _option(
        "text", "transcribe", str, "translate: into English", choices=TASKS
    )  # fmt: skip
    initial_prompt: str | None = _option(
        "text", None, str, "text that stands before each piece: names, spelling, style"
    )

    rule: str = _option(
        "search", "whisper", str, "search as openai-whisper does, or as ESPnet does", choices=RULES
    )
    beam_size: int = _option(
        "search", 5, int, "hypotheses kept per utterance; 1 is greedy", **_at_least_1
    )
    nbest: int = _option("search", 1, int, "hypotheses returned per utterance", **_at_least_1)
    max_tokens: int | None = _option(
        "search", None, int,
        "tokens of a piece at most (default: half of the decoder's positions under rule whisper, "
        "maxlenratio under rule espnet)",
        **_at_least_1,
    )  # fmt: skip
    patience: float = _option(
        "search", 1.0, float,
        "rule whisper: the search ends when beam_size * patience hypotheses have",
        allowed="1 / beam_size or more, finite", check=lambda value: 0 < value < math.inf,
    )  # fmt: skip
    length_penalty: float | None = _option(
        "search", None, float,
        "rule whisper: alpha in ((5 + length) / 6)^alpha, which divides the score (default: the "
        "length divides it)",
        allowed="0 to 1", check=lambda value: 0 <= value <= 1,
    )  # fmt: skip
    maxlenratio: float = _option(
        "search", 0.0, float,
        "rule espnet: tokens per memory position at most; 0: one each, with ESPnet's end "
        "detection; below 0: that many tokens",
        **_finite,
    )  # fmt: skip
    minlenratio: float = _option(
        "search", 0.0, float,
        "rule espnet: tokens per memory position at least; below 0: that many tokens",
        **_finite,
    )  # fmt: skip
    penalty: float = _option(
        "search", 0.0, float, "rule espnet: added to the score for each token", **_finite
    )
    normalize_length: bool = _option(
        "search", False, bool, "rule espnet: rank by score per token"
    )  # fmt: skip

    suppress_tokens: str | None = _option(
        "filters", None, str,
        "token ids with commas between them, -1 for symbols that are not spoken, '' for none "
        "(default: -1 under rule whisper, none under rule espnet)",
    )  # fmt: skip
    suppress_blank: bool | None = _option(
        "filters", None, bool,
        "whether a text may neither begin with a blank nor be empty (default: under rule whisper)",
    )  # fmt: skip
    min_tokens: int = _option("filters", 0, int, "tokens of a text at least", **_at_least_0)
    no_repeat_ngram_size: int = _option(
        "filters", 0, int, "n-grams of so many tokens never come twice; 0: they may", **_at_least_0
    )

    word_timestamps: bool = _option(
        "words", False, bool, "when each word is said; segments then follow pauses and sentences"
    )
    confidence: bool = _option(
        "words", False, bool, "probability of each word and piece, in the JSON"
    )
    word_confidence: str = _option(
        "words", "product", str,
        "a word's confidence from its tokens' probabilities; mean: the geometric one",
        choices=WORD_CONFIDENCES,
    )  # fmt: skip
    temperature: float = _option(
        "words", 1.0, float, "logits are divided by it for confidences", **_above_0
    )
    samples: int = _option(
        "words", 0, int,
        "draws from a Bayesian adapter's posterior that the search averages; 0: its mean",
        **_at_least_0,
    )  # fmt: skip
    spread: float = _option(
        "words", 1.0, float, "factor on the posterior's scales", **_finite_at_least_0
    )
    seed: int = _option("words", 0, int, "seed of the draws, which all utterances share")

    batch_size: int = _option(
        "batches", 16, int, "utterances decoded together, each with one row per draw", **_at_least_1
    )
    chunk_length: float = _option(
        "batches", 30.0, float,
        "seconds of a piece at most; less for a model trained on short utterances",
        allowed="1 to 30 seconds", check=lambda value: 1 <= value <= 30,
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Check each value by its field."""
        for known in fields(self):
            value, check = getattr(self, known.name), known.metadata["check"]
            if check is not None and value is not None and not check(value):
                raise ValueError(_refusal(known, value))
        if round(self.beam_size * self.patience) < 1:
            raise ValueError(_refusal(FIELDS["patience"], self.patience))

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
                parsed[name] = _parsed(FIELDS[name], value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{where}: {_refusal(FIELDS[name], value)}") from error
        return cls(**parsed)

    @classmethod
    def from_namespace(cls, options: argparse.Namespace) -> Self:
        """Fill the record from those options of a program that are fields and not None."""
        values = vars(options).items()
        return cls.from_mapping({n: v for n, v in values if n in FIELDS and v is not None})


FIELDS: dict[str, Field] = {known.name: known for known in fields(DecodingOptions)}
"""The fields of `DecodingOptions` by name."""


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
    return [
        OptionHelp(name, about["group"], about["kind"].__name__, known.default, about["allowed"],
                   about["help"])
        for name, known in FIELDS.items()
        for about in (known.metadata,)
    ]  # fmt: skip


def option_names(*groups: str) -> list[str]:
    """Return the names of the options of some groups."""
    return [name for name, known in FIELDS.items() if known.metadata["group"] in groups]


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
    for name in names:
        known, about = FIELDS[name], FIELDS[name].metadata
        default = defaults.get(name, known.default)
        how: dict[str, Any] = {"type": parser_of(name), "default": default}
        if default is False:
            how = {"action": "store_true"}
        elif about["choices"]:
            how["choices"] = about["choices"]
        parser.add_argument(f"--{name}", help=about["help"], **how)


def parser_of(name: str) -> Callable[[str], Any]:
    """Return the function that reads an option's value from text."""
    kind = FIELDS[name].metadata["kind"]
    return flag if kind is bool else kind


def flag(text: str) -> bool:
    """Read a truth value.

    Raises:
        ValueError: The text is not one.
    """
    value = text.strip().lower()
    if value in ("true", "t", "1", "yes", "y", "on"):
        return True
    if value in ("false", "f", "0", "no", "n", "off"):
        return False
    raise ValueError(f"{text!r} is not a truth value")


def _parsed(known: Field, value: Any) -> Any:
    """Return a value as its field has it; ValueError or TypeError where that cannot be."""
    kind = known.metadata["kind"]
    if (value is None and known.default is None) or isinstance(value, Mapping):
        return value
    if kind is bool:
        return value if isinstance(value, bool) else flag(value)
    if isinstance(value, bool) or (kind is int and isinstance(value, float) and value % 1):
        raise ValueError
    return kind(value)


def _refusal(known: Field, value: Any) -> str:
    kinds = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    allowed = known.metadata["allowed"] or kinds[known.metadata["kind"]]
    return f"{known.name} is {value!r}; allowed: {allowed}"
