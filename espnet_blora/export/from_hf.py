"""What users of transformers and PEFT have trained: a LoRA, or a whole Whisper."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from whisper.model import Whisper

from espnet_blora.export.hf import hf_name
from espnet_blora.export.incoming import Incoming, Part, as_lora, factored, read_json, read_weights

PEFT_CONFIG, HF_CONFIG = "adapter_config.json", "config.json"
MERGE = (
    "Remedy: merge it there (model.merge_and_unload().save_pretrained(DIR)) and import that folder"
)
# Options of PEFT's LoraConfig that the tensors themselves show, or that concern its training alone.
_SHOWN = frozenset(
    "peft_type r lora_alpha target_modules exclude_modules lora_dropout use_rslora use_dora "
    "rank_pattern alpha_pattern layers_to_transform layers_pattern init_lora_weights task_type "
    "inference_mode auto_mapping peft_version base_model_name_or_path revision bias "
    "megatron_core loftq_config runtime_config qalora_group_size".split()
)
# Starts that leave the base as it is; others (PiSSA, OLoRA, LoftQ ...) train on a changed one.
_STARTS = (True, False, None, "gaussian")


def read_peft(folder: Path, plain: Whisper) -> Incoming:
    """Read a LoRA of PEFT's: rslora, DoRA, patterns of ranks and alphas included.

    Args:
        folder: With adapter_config.json and adapter_model.safetensors (or .bin).
        plain: The Whisper that it was trained on.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A file is damaged, does not fit the base, or it is more than a LoRA on Linears.
    """
    where = folder / PEFT_CONFIG
    config = read_json(where)
    _check_options(where, config)
    found = read_weights(folder, "adapter_model")
    places = {
        hf_name(f"{name}.weight").removesuffix(".weight").removeprefix("model."): name
        for name, module in plain.named_modules()
        if isinstance(module, torch.nn.Linear)
    }

    # A, B and the magnitude of each Linear.
    sides: dict[str, dict[str, Tensor]] = {}
    for key, tensor in found.items():
        inner = re.sub(r"^(base_model\.)?(model\.)*", "", key)
        place, side = re.fullmatch(
            r"(.+?)(?:\.(lora_[AB]\.weight|lora_magnitude_vector)(?:\.weight)?)?", inner
        ).groups()  # type: ignore[union-attr]
        if side is None or place not in places:
            what = "no LoRA's factor" if side is None else "not on a Linear of a Whisper's blocks"
            raise ValueError(f"{folder}: {key} is {what}, so it cannot come in. {MERGE}")
        sides.setdefault(place, {})[side.partition(".")[0]] = tensor
    parts = {}
    for place, tensors in sides.items():
        wanted = {"lora_A", "lora_B"} | (
            {"lora_magnitude_vector"} if config.get("use_dora") else set()
        )
        if tensors.keys() != wanted:
            raise ValueError(
                f"{folder}: {place} has {', '.join(sorted(tensors))}, {', '.join(sorted(wanted))} "
                "are expected: the file is cut, or its adapter_config.json is another's"
            )
        rank = len(tensors["lora_A"])
        stated = _of_pattern(config, "rank_pattern", "r", place)
        if rank != stated:
            raise ValueError(f"{where}: r of {place} is {stated!r}, its lora_A has {rank} rows")
        alpha = _of_pattern(config, "alpha_pattern", "lora_alpha", place)
        if not isinstance(alpha, (int, float)):
            raise ValueError(f"{where}: lora_alpha of {place} is {alpha!r}; a number is expected")
        scaling = alpha / (rank**0.5 if config.get("use_rslora") else rank)
        magnitude = tensors.get("lora_magnitude_vector")
        parts[places[place]] = Part(tensors["lora_A"], tensors["lora_B"], scaling, magnitude)
    return as_lora(parts, plain)


def _check_options(where: Path, config: Mapping[str, Any]) -> None:
    """Refuse what is more, or other, than a LoRA on Linears.

    Raises:
        ValueError: An option asks for it; names it.
    """
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ValueError(f"{where}: peft_type is {kind!r}; LORA is read. {MERGE}")
    start = config.get("init_lora_weights", True)
    odd = {key: value for key, value in config.items() if key not in _SHOWN and value}
    if config.get("bias", "none") != "none":
        odd["bias"] = config["bias"]
    if start not in _STARTS:
        odd["init_lora_weights"] = f"{start} (it changes the base)"
    if odd:
        named = ", ".join(f"{key}: {value}" for key, value in odd.items())
        raise ValueError(f"{where}: {named}: more than a LoRA on a frozen base. {MERGE}")


def _of_pattern(config: Mapping[str, Any], pattern: str, default: str, place: str) -> Any:
    """Return the value of one Linear, as PEFT finds it (`get_pattern_key`)."""
    table = config.get(pattern) or {}
    try:
        for key, value in table.items():
            if re.match(rf"(.*\.)?({key})$", f"model.{place}"):
                return value
    except (re.error, AttributeError) as error:
        raise ValueError(f"{pattern} is not a table of names ({error})") from error
    return config.get(default, 8)


def read_hf(folder: Path, plain: Whisper, rank: int | None) -> Incoming:
    """Read a wholly trained Whisper of transformers.

    Args:
        folder: With config.json and model.safetensors (or shards, or pytorch_model.bin).
        plain: The Whisper that it was trained from.
        rank: Keep a LoRA of this rank of what was trained; None: all weights.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A file is damaged, or of another model than the base.
    """
    where = folder / HF_CONFIG
    _check_dims(where, read_json(where), plain)
    found = read_weights(folder, "model")
    found = {key if key.startswith("model.") else f"model.{key}": t for key, t in found.items()}
    base = plain.state_dict()
    names = {hf_name(name): name for name in base}

    # The output layer is the embedding; the encoder's positions may have been left out.
    head = found.pop("model.proj_out.weight", None)
    table = found.get("model.decoder.embed_tokens.weight")
    if head is not None and table is not None and not torch.equal(head, table):
        raise ValueError(f"{folder}: proj_out differs from embed_tokens; in a Whisper they are one")
    found.setdefault("model.encoder.embed_positions.weight", base["encoder.positional_embedding"])
    missing, unexpected = sorted(names.keys() - found), sorted(found.keys() - names)
    if missing or unexpected:
        raise ValueError(
            f"{folder}: not the weights of such a Whisper: {len(missing)} missing "
            f"({', '.join(missing[:2]) or '-'}), {len(unexpected)} more "
            f"({', '.join(unexpected[:2]) or '-'})"
        )
    state = {names[key]: tensor for key, tensor in found.items()}
    for name, tensor in state.items():
        if tensor.shape != base[name].shape:
            raise ValueError(
                f"{folder}: {hf_name(name)} has the shape {tuple(tensor.shape)}, the base "
                f"{tuple(base[name].shape)}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{folder}: {hf_name(name)} holds NaN or inf")
    if rank is not None:
        return factored(state, plain, rank)
    return Incoming(None, {}, state)


def _check_dims(where: Path, config: Mapping[str, Any], plain: Whisper) -> None:
    """Check that a config.json describes a Whisper of the base's size."""
    if config.get("model_type") != "whisper":
        raise ValueError(f"{where}: model_type is {config.get('model_type')!r}, not 'whisper'")
    dims = plain.dims
    wanted = {
        "vocab_size": dims.n_vocab,
        "num_mel_bins": dims.n_mels,
        "d_model": dims.n_audio_state,
        "encoder_layers": dims.n_audio_layer,
        "decoder_layers": dims.n_text_layer,
        "encoder_attention_heads": dims.n_audio_head,
        "decoder_attention_heads": dims.n_text_head,
        "max_source_positions": dims.n_audio_ctx,
        "max_target_positions": dims.n_text_ctx,
    }
    for key, value in wanted.items():
        if config.get(key) != value:
            added = ": tokens that were added cannot come in" if key == "vocab_size" else ""
            raise ValueError(
                f"{where}: {key} is {config.get(key)!r}, the base has {value}{added}; give the "
                "--base that it was trained from"
            )
