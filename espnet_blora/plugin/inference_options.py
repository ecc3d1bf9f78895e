"""The options of ESPnet's `asr_inference`, read without importing it, and whose search they need.

Names, types and defaults are ESPnet's (a test compares every one). Most need ESPnet's own search:
language models, CTC, streaming, other models than Whisper. What is left is decoded by
`espnet_blora.plugin.batched_inference`, which also knows a few options that ESPnet's lacks.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from espnet_blora.decoding.options import FIELDS, SEARCH, flag, parser_of


def _text(text: str) -> str | None:
    return None if text.strip().lower() in ("", "none", "null", "nil") else text


def _triple(text: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(","))
    if len(parts) != 3:
        raise ValueError(f"{text!r}: PATH,NAME,TYPE is expected")
    return parts


READ: dict[str, tuple[Any, Any]] = {
    "config": (str, None),
    "log_level": (str.upper, "INFO"),
    "output_dir": (str, None),
    "ngpu": (int, 0),
    "seed": (int, 0),
    "dtype": (str, "float32"),
    "num_workers": (int, 1),
    "data_path_and_name_and_type": (_triple, None),
    "key_file": (_text, None),
    "asr_train_config": (str, None),
    "asr_model_file": (str, None),
    "batch_size": (int, 1),
    "nbest": (int, 1),
    "beam_size": (int, 20),
    "penalty": (float, 0.0),
    "maxlenratio": (float, 0.0),
    "minlenratio": (float, 0.0),
    "normalize_length": (flag, False),
    "ctc_weight": (float, 0.5),
    "lm_weight": (float, 1.0),
    "ngram_weight": (float, 0.9),
    "ctc_window_margin": (int, 100),
    "quantize_modules": (str, ["Linear"]),
    "quantize_dtype": (str, "qint8"),
    "threshold_probability": (float, 0.99),
    "max_seq_len": (int, 5),
    "max_mask_parallel": (int, -1),
}
"""What a decoding of ours reads, or what has no effect on it: name -> (type, default)."""

_FLAGS = """
    allow_variable_data_keys enh_s2t_task multi_asr quantize_asr_model quantize_lm streaming
    hugging_face_decoder time_sync partial_ar
    """.split()
_TEXTS = """
    lm_train_config lm_file word_lm_train_config word_lm_file ngram_file model_tag transducer_conf
    lang_prompt_token nlp_prompt_token prompt_token_file
    """.split()
REFUSED: dict[str, tuple[Any, Any]] = {
    **dict.fromkeys(_FLAGS, (flag, False)),
    **dict.fromkeys(_TEXTS, (str, None)),
    **dict.fromkeys(("token_type", "bpemodel"), (_text, None)),
    "hugging_face_decoder_conf": (str, {}),
}
"""What only ESPnet's search does: any other value than the default goes there."""

OURS = {"rule": "espnet", "suppress_tokens": ""}
"""Defaults of stage 12 that are not those of `DecodingOptions`."""

EXTRA: dict[str, tuple[Any, Any]] = {
    name: (parser_of(name), OURS.get(name, FIELDS[name].default))
    for name in SEARCH
    if name not in READ
}
"""What ESPnet's program lacks: `DecodingOptions` says what they are."""

TABLE = READ | REFUSED | EXTRA
"""Every option of stage 12: name -> (type, default)."""

DTYPES = ("float32", "float16", "bfloat16")


class _Unknown(Exception):
    """An option or a value that ESPnet's parser shall judge."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise _Unknown(message)


def parse(arguments: Sequence[str]) -> argparse.Namespace | str:
    """Read the command line and its `--config`; a text when ESPnet's parser must have its say."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    for name, (kind, default) in TABLE.items():
        more: dict[str, Any] = {}
        if name == "data_path_and_name_and_type":
            more = {"action": "append"}
        elif name == "quantize_modules":
            more = {"nargs": "*"}
        parser.add_argument(f"--{name}", type=kind, default=default, **more)
    try:
        config = parser.parse_args(list(arguments)).config
        if config is not None:
            with open(config, encoding="utf-8") as file:
                values = yaml.safe_load(file)
            if not isinstance(values, dict) or set(values) - set(TABLE):
                raise _Unknown(f"{config} holds options that are not known here")
            for name, value in values.items():
                kind = TABLE[name][0]
                if kind in (int, float) and isinstance(value, (int, float)):
                    values[name] = kind(value)
            parser.set_defaults(**values)
        return parser.parse_args(list(arguments))
    except (_Unknown, OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        return " ".join(str(error).split())


def extras(options: argparse.Namespace) -> list[str]:
    """Name the options given that only our search has."""
    given = [name for name, (_, default) in EXTRA.items() if getattr(options, name) != default]
    return given + (["dtype: bfloat16"] if options.dtype == "bfloat16" else [])


def why_espnet(options: argparse.Namespace) -> str | None:
    """Say why these options need ESPnet's own search; None when ours serves."""
    for name, (_, default) in REFUSED.items():
        if getattr(options, name) != default:
            return f"--{name} is given"
    if options.dtype not in DTYPES:
        return f"--dtype {options.dtype}"
    if options.ctc_weight != 0.0:
        return f"ctc_weight is {options.ctc_weight:g}"
    data = options.data_path_and_name_and_type or []
    if [(name, kind) for _, name, kind in data] != [("speech", "sound")]:
        return "the data is not one wav.scp of sound"
    if None in (options.output_dir, options.asr_train_config, options.asr_model_file):
        return "an option that is required is missing"
    return _why_model(Path(options.asr_train_config))


def _why_model(config: Path) -> str | None:
    """Look for what the head of config.yaml says: it is read and checked in full later."""
    try:
        text = config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return f"{config} cannot be read"
    for half in ("encoder", "decoder"):
        if not re.search(rf"^{half}: whisper$", text, re.MULTILINE):
            return f"its {half} is not Whisper's"
    if re.search(r"^adapter: houlsby$", text, re.MULTILINE):
        return "adapter: houlsby is ESPnet's own"
    if re.search(r"^ +use_cache: false$", text, re.MULTILINE):
        return "decoder_conf.use_cache is false"
    return None
