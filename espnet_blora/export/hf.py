"""Hugging Face's folder: `WhisperForConditionalGeneration` and `WhisperProcessor`.

The tokenizer is built from openai-whisper's own table, so nothing is fetched.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from whisper.model import Whisper

from espnet_blora.whisper.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

# openai-whisper's name of a part -> Hugging Face's; longer names stand first.
NAMES = {
    r"^(encoder|decoder)\.blocks\.": r"\1.layers.",
    r"\.cross_attn_ln\.": ".encoder_attn_layer_norm.",
    r"\.cross_attn\.": ".encoder_attn.",
    r"\.attn_ln\.": ".self_attn_layer_norm.",
    r"\.attn\.": ".self_attn.",
    r"\.query\.": ".q_proj.",
    r"\.key\.": ".k_proj.",
    r"\.value\.": ".v_proj.",
    r"\.out\.": ".out_proj.",
    r"\.mlp\.0\.": ".fc1.",
    r"\.mlp\.2\.": ".fc2.",
    r"\.mlp_ln\.": ".final_layer_norm.",
    r"^encoder\.ln_post\.": "encoder.layer_norm.",
    r"^decoder\.ln\.": "decoder.layer_norm.",
    r"^decoder\.token_embedding\.": "decoder.embed_tokens.",
    r"\.positional_embedding$": ".embed_positions.weight",
}
README = """\
# A Whisper for Hugging Face transformers

    from transformers import WhisperForConditionalGeneration, WhisperProcessor
    processor = WhisperProcessor.from_pretrained("FOLDER")
    model = WhisperForConditionalGeneration.from_pretrained("FOLDER")
    features = processor(wave, sampling_rate=16000, return_tensors="pt").input_features
    ids = model.generate(features, language="en", task="transcribe", num_beams=1)
    text = processor.batch_decode(ids, skip_special_tokens=True)
"""


def hf_name(name: str) -> str:
    """Return Hugging Face's name of a parameter of openai-whisper's model."""
    for pattern, replacement in NAMES.items():
        name = re.sub(pattern, replacement, name)
    return f"model.{name}"


def hf_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return openai-whisper's state dict under Hugging Face's names."""
    return {hf_name(name): tensor for name, tensor in state.items()}


def to_hf(whisper: Whisper) -> WhisperForConditionalGeneration:
    """Return the same network as Hugging Face's model, in eval mode.

    Its generation says what openai-whisper says by default: neither blank nor end of text first,
    no symbols that are not spoken.

    Raises:
        ValueError: Names that do not match.
    """
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

    dims = whisper.dims
    vocabulary = Vocabulary.of(dims.n_vocab)
    control = vocabulary.tokenizer
    tokens: dict[str, Any] = {
        "decoder_start_token_id": vocabulary.sot,
        "bos_token_id": vocabulary.eot,
        "eos_token_id": vocabulary.eot,
        "pad_token_id": vocabulary.eot,
    }
    config = WhisperConfig(
        vocab_size=dims.n_vocab,
        num_mel_bins=dims.n_mels,
        encoder_layers=dims.n_audio_layer,
        encoder_attention_heads=dims.n_audio_head,
        decoder_layers=dims.n_text_layer,
        decoder_attention_heads=dims.n_text_head,
        encoder_ffn_dim=4 * dims.n_audio_state,
        decoder_ffn_dim=4 * dims.n_text_state,
        d_model=dims.n_audio_state,
        max_source_positions=dims.n_audio_ctx,
        max_target_positions=dims.n_text_ctx,
        begin_suppress_tokens=None,
        **tokens,
    )
    model = WhisperForConditionalGeneration(config).eval()
    state = hf_state({k: v.float() for k, v in whisper.state_dict().items()})
    # not strict: the tied output layer has no key of its own; anything else is an error below
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) - {"proj_out.weight"}:
        raise ValueError(f"missing: {missing}, unexpected: {unexpected}")
    model.tie_weights()
    never = {vocabulary.transcribe, vocabulary.translate, vocabulary.sot, control.no_speech}
    never |= {control.sot_prev, control.sot_lm, *control.non_speech_tokens}
    model.generation_config = GenerationConfig(
        is_multilingual=True,
        lang_to_id={f"<|{code}|>": number for code, number in vocabulary.languages.items()},
        task_to_id={"transcribe": vocabulary.transcribe, "translate": vocabulary.translate},
        no_timestamps_token_id=vocabulary.notimestamps,
        prev_sot_token_id=control.sot_prev,
        max_initial_timestamp_index=50,
        return_timestamps=False,
        alignment_heads=whisper.alignment_heads.to_dense().nonzero().tolist(),
        max_length=dims.n_text_ctx,
        suppress_tokens=sorted(never),
        begin_suppress_tokens=[*vocabulary.encode(" "), vocabulary.eot],
        **tokens,
    )
    return model


@lru_cache(maxsize=2)
def merges(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Return the byte pair merges, in order of rank, in GPT-2's alphabet.

    A token's two parts are what merging its bytes by all earlier tokens leaves (Sennrich et al.
    2016, arXiv 1508.07909).
    """
    encoding, names = vocabulary.tokenizer.encoding, vocabulary.token_list()
    raw = [encoding.decode_single_token_bytes(index) for index in range(vocabulary.eot)]
    rank = {token: index for index, token in enumerate(raw)}
    found = []
    for index, token in enumerate(raw):
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            pairs = [rank.get(a + b, index) for a, b in pairwise(parts)]
            best = min(range(len(pairs)), key=pairs.__getitem__)
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        if len(parts) == 2:
            first, second = (names[rank[part]] for part in parts)
            found.append((first, second))
    return found


def write_hf(model: Whisper, folder: Path) -> None:
    """Write weights, configurations, tokenizer and feature extractor, and how to load them.

    Files that transformers 4 and faster-whisper read, and transformers 5 no longer writes, are
    there too: preprocessor_config.json, vocab.json, merges.txt.

    Args:
        model: Of `openai.assemble`; stored in fp32.
        folder: Is there.

    Raises:
        OSError: It cannot be written.
        ValueError: Names that do not match.
    """
    from tokenizers import AddedToken
    from transformers import WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizer

    # The model.
    to_hf(model).save_pretrained(folder)

    # The tokenizer: text, then control tokens in order of id, then timestamps, which are no control
    # tokens there. <|notimestamps|> is the last of the former, by which its code finds the latter.
    vocabulary = Vocabulary.of(model.dims.n_vocab)
    names, pairs = vocabulary.token_list(), merges(vocabulary)
    text = {name: index for index, name in enumerate(names[: vocabulary.eot + 1])}
    tokenizer = WhisperTokenizer(vocab=text, merges=pairs)
    control = names[vocabulary.eot + 1 : vocabulary.timestamp_begin]
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [_added(AddedToken, name, True) for name in control]}
    )
    tokenizer.add_tokens(
        [_added(AddedToken, name, False) for name in names[len(text) + len(control) :]]
    )
    features = WhisperFeatureExtractor(feature_size=model.dims.n_mels)
    WhisperProcessor(features, tokenizer).save_pretrained(folder)

    # What other versions and readers want.
    features.save_pretrained(folder)
    _write_json(folder / "vocab.json", text)
    lines = ["#version: 0.2", *(f"{first} {second}" for first, second in pairs)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    place = folder / "tokenizer_config.json"
    settings = json.loads(place.read_text(encoding="utf-8"))
    if "extra_special_tokens" in settings:  # a list in 5, which 4 takes for a dict
        settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
    _write_json(place, settings)
    (folder / "README.md").write_text(README, encoding="utf-8")


def _added(kind: Any, name: str, special: bool) -> Any:
    return kind(name, special=special, normalized=False)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
