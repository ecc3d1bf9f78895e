"""The `config.yaml` of a trained ESPnet experiment, read fast: what decoding needs of it.

Nine tenths of the file are the token list, one line per token. YAML parsers need between a fifth
of a second and over a second for it. As nearly all of its lines are plain, they are read as text,
and still compared with Whisper's own vocabulary token by token.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from espnet_blora.whisper.new_tokens import check_agreement
from espnet_blora.whisper.vocabulary import Vocabulary

DATA = "training_data"
"""Key of config.yaml under which the plugin says what was trained on."""
BEST, BASE, RESUME = "valid.acc.best.pth", "base.pth", "checkpoint.pth"
ESPNET = (
    "Remedy: decode it with ESPnet's own program, python3 -m espnet_blora.run -m "
    "espnet2.bin.asr_inference"
)
# As ESPnet lays it out: one line per token, and another key behind the last.
_LIST = re.compile(r"^token_list:\n((?:- .*\n)+)(?=[a-z_]+:)", re.MULTILINE)
# What YAML reads as itself: no quotes, no sign of its own at the start, no blank, no number.
_PLAIN = re.compile(r"[^\W\d_][^\s:#'\"\\]*|<\|[\w.]+\|>")
_QUOTED = re.compile(r"'[^']+'")
_WORDS = frozenset("y n yes no on off true false null".split())


@dataclass(frozen=True)
class TrainedLengths:
    """Seconds of the utterances that a model was trained on.

    Attributes:
        median: Half of them were not longer.
        most: 95 % of them were not longer.
        longest: None was longer.
    """

    median: float
    most: float
    longest: float


@dataclass(frozen=True)
class TrainingConfig:
    """What a trained experiment says of its model.

    Attributes:
        path: Of config.yaml.
        values: config.yaml without the token list.
        vocabulary: The vocabulary of the token list.
    """

    path: Path
    values: Mapping[str, Any]
    vocabulary: Vocabulary

    @property
    def adapter(self) -> tuple[str, dict[str, Any]] | None:
        """Method and options of the adapter; None for a model without one."""
        if not self.values.get("use_adapter"):
            return None
        return str(self.values.get("adapter")), dict(self.values.get("adapter_conf") or {})

    @property
    def language(self) -> str | None:
        """The code of the language that preprocessor_conf.whisper_language names, if it does.

        Raises:
            ValueError: the model has no such language.
        """
        named = self.part("preprocessor").get("whisper_language")
        return None if named is None else self._code("preprocessor_conf.whisper_language", named)

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the training utterances' languages, the most frequent first, as far as known.

        Raises:
            ValueError: the model has no such language.
        """
        names = (self.values.get(DATA) or {}).get("languages") or {}
        return tuple(dict.fromkeys(self._code(DATA, name) for name in names))

    def _code(self, key: str, name: object) -> str:
        try:
            return self.vocabulary.language_code(str(name))
        except ValueError as error:
            raise ValueError(f"{self.path}: {key}: {error}") from error

    @property
    def lengths(self) -> TrainedLengths | None:
        """How long the training's utterances were, if config.yaml says it."""
        seconds = (self.values.get(DATA) or {}).get("seconds")
        return TrainedLengths(**seconds) if seconds else None

    @property
    def pad_to(self) -> str:
        """How waves are padded, a value of `PAD_TO`."""
        return str(self.part("encoder").get("pad_to", "30s"))

    @property
    def whisper(self) -> str | None:
        """The size or file that both halves come from, as config.yaml has it.

        Raises:
            ValueError: the halves name two.
        """
        halves = [self.part(half).get("whisper_model") for half in ("encoder", "decoder")]
        named = {str(spec) for spec in halves if spec is not None}
        if len(named) > 1:
            raise ValueError(
                f"{self.path}: encoder of Whisper {halves[0]!r} with a decoder of {halves[1]!r}: "
                "both halves must come from one model"
            )
        return next(iter(named), None)

    def part(self, name: str) -> dict[str, Any]:
        """The options `name`_conf."""
        return self.values.get(f"{name}_conf") or {}


def for_decoding(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of config.yaml a `TrainingConfig` of the adapter's own file needs.

    These are the padding, the languages and the lengths of the utterances, under the same keys.
    """
    options = (("encoder_conf", "pad_to"), ("preprocessor_conf", "whisper_language"))
    kept: dict[str, Any] = {
        part: {key: values[part][key]}
        for part, key in options
        if (values.get(part) or {}).get(key) is not None
    }
    return kept | ({DATA: values[DATA]} if values.get(DATA) else {})


def read_training_config(path: Path) -> TrainingConfig:
    """Read and check the config.yaml of a Whisper that ESPnet has trained.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not such a file, of another model than a Whisper, or its token list is not
            exactly Whisper's (and tokens of new languages).
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; train first (run.sh --stage 11)")
    try:
        text = path.read_text(encoding="utf-8")
        values, tokens = _parse(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error
    if not isinstance(values, dict) or "encoder" not in values or "decoder" not in values:
        raise ValueError(
            f"{path}: no config.yaml of ESPnet's training (encoder:, decoder: missing)"
        )
    _check_model(path, values)
    if not isinstance(tokens, list):
        raise ValueError(
            f"{path}: token_list is {type(tokens).__name__}, the list of all tokens is expected: "
            "use the config.yaml that the training wrote"
        )
    vocabulary = Vocabulary.of_tokens([str(token) for token in tokens], f"{path}, token_list")
    check_agreement((values.get("decoder_conf") or {}).get("new_languages"), vocabulary)
    return TrainingConfig(path, values, vocabulary)


def find_checkpoint(folder: Path, given: str | os.PathLike | None = None) -> Path:
    """Return the checkpoint to load: `given`, by name in `folder` or by path, else the usual one.

    Without `given` it is the best epoch's, else the mark of the unadapted base; of a packed model,
    which has no checkpoint.pth to train on from, the only one there.

    Raises:
        FileNotFoundError: it is not there; names those that are.
    """
    names = [BEST, BASE] if given is None else [os.fspath(given)]
    places = [folder / name for name in names] + [Path(name) for name in names if given is not None]
    for place in places:
        if place.is_file():
            return place
    files = sorted(path.name for path in folder.glob("*.pth"))
    if given is None and len(files) == 1 and files != [RESUME]:
        return folder / files[0]
    there = [name for name in files if name != RESUME]
    raise FileNotFoundError(
        f"{folder}: none of {', '.join(names)}; there are {', '.join(there) or 'no checkpoints'}: "
        "train first (run.sh --stage 11), or name one of these (--model_file)"
    )


def _check_model(path: Path, values: Mapping[str, Any]) -> None:
    """Refuse everything that is not a Whisper from wave to tokens."""
    odd = [
        f"{key}: {values[key]}"
        for key, expected in (("encoder", "whisper"), ("decoder", "whisper"))
        if values[key] != expected
    ]
    odd += [
        f"{key}: {values[key]}"
        for key in ("frontend", "normalize", "preencoder", "postencoder")
        if values.get(key) is not None
    ]
    if values.get("use_adapter") and values.get("adapter") == "houlsby":
        odd.append("adapter: houlsby is ESPnet's own")
    weight = (values.get("model_conf") or {}).get("ctc_weight", 0.5)
    odd += [f"model_conf.ctc_weight: {weight}"] if weight != 0 else []
    if odd:
        raise ValueError(
            f"{path}: {', '.join(odd)}: this is not a Whisper alone, which is all that this search "
            f"decodes. {ESPNET}"
        )


def _parse(text: str) -> tuple[Any, Any]:
    """Return config.yaml without its token list, and the token list."""
    block = _LIST.search(text)
    if block is None:
        values = load_yaml(text)
        return values, values.pop("token_list", None) if isinstance(values, dict) else None
    lines = block[1][:-1].split("\n")
    tokens = [_plain(line.removeprefix("- ")) for line in lines]
    odd = [line for line, token in zip(lines, tokens, strict=True) if token is None]
    parsed = iter(load_yaml("\n".join(odd)) or [])
    values = load_yaml(text[: block.start()] + text[block.end() :])
    return values, [next(parsed) if token is None else token for token in tokens]


def _plain(entry: str) -> str | None:
    """Read one entry of a list if it is plainly a string."""
    if _PLAIN.fullmatch(entry) and entry.lower() not in _WORDS:
        return entry
    return entry[1:-1] if _QUOTED.fullmatch(entry) else None


def load_yaml(source: str | IO) -> Any:
    """Return what a yaml text or file holds, read by libyaml where that is installed."""
    return yaml.load(source, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a yaml file that holds a mapping.

    Raises:
        ValueError: It does not (for example cut short).
    """
    try:
        config = load_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error
    if not isinstance(config, dict):
        raise ValueError(f"{path}: expected a yaml mapping, found {type(config).__name__}")
    return config


def unreadable(path: Path, error: Exception) -> ValueError:
    """Return the error of a file that is not yaml."""
    return ValueError(f"{path}: not readable as yaml: {' '.join(str(error).split())}")
