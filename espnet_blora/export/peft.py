"""PEFT's folder: `PeftModel.from_pretrained` on Hugging Face's model of the base.

Of a Bayesian adapter it holds the posterior's means; `posterior.safetensors` beside it, which PEFT
does not read, holds all factors.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from whisper.model import Whisper

from espnet_blora.adapters import Adapter
from espnet_blora.adapters.layer import AdapterLayer, as_product
from espnet_blora.export.adapter import on_plain
from espnet_blora.export.hf import hf_name
from espnet_blora.whisper.checkpoint import hub_name

POSTERIOR = "posterior.safetensors"
README = """\
# A LoRA for Hugging Face PEFT, on {base}

    from peft import PeftModel
    from transformers import WhisperForConditionalGeneration
    base = WhisperForConditionalGeneration.from_pretrained("{base}")
    model = PeftModel.from_pretrained(base, "FOLDER")

The base must be the Whisper that it was trained on. `espnet-blora export EXPERIMENT BASE_FOLDER
--to hf --scale 0` makes its folder of an experiment. {posterior}
"""


def write_peft(adapter: Adapter, plain: Whisper, base: str, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors, and how to load them.

    Args:
        adapter: Of an experiment or of a file; a scale that is set on it goes into alpha.
        plain: The Whisper that it was trained on, without an adapter; gets this one.
        base: Its published size or file.
        folder: Is there.

    Raises:
        ValueError: The update is not of the form alpha / r B A, or of another Whisper.
        OSError: It cannot be written.
    """
    renamed = on_plain(adapter, plain, folder / POSTERIOR)
    if not adapter.bayesian:
        (folder / POSTERIOR).unlink()
    dora = renamed.method == "dora"
    if dora and adapter.scale != 1:
        raise ValueError("--scale: PEFT has no scale for dora's update; --to hf takes it merged")
    tensors: dict[str, torch.Tensor] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for name, layer in renamed.layers.items():
        place = hf_name(f"{name}.weight").removesuffix(".weight")
        factors = _dora(layer) if dora else _lora(renamed.method, name, layer)
        ranks[place] = len(factors["lora_A.weight"])  # r
        alphas[place] = layer.scaling * ranks[place] * adapter.scale
        if dora:  # its layers leave alpha to PEFT
            alphas[place] = renamed.config.as_dict()["alpha"]
        tensors |= {f"base_model.model.{place}.{end}": factor for end, factor in factors.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})

    # The most common rank and alpha are the default, all others stand in patterns.
    rank, alpha = (max(set(v.values()), key=list(v.values()).count) for v in (ranks, alphas))
    named = hub_name(base)
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": named,
        "inference_mode": True,
        "bias": "none",
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": sorted(ranks),
        "rank_pattern": {name: r for name, r in ranks.items() if r != rank},
        "use_dora": dora,
        "alpha_pattern": {name: a for name, a in alphas.items() if a != alpha},
    }
    text = json.dumps(config, indent=1) + "\n"
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    posterior = f"Its posterior is in `{POSTERIOR}`." if adapter.bayesian else ""
    text = README.format(base=named or "BASE_FOLDER", posterior=posterior)
    (folder / "README.md").write_text(text, encoding="utf-8")


def _dora(layer: AdapterLayer) -> dict[str, torch.Tensor]:
    """Return A, B and the magnitude (d_out,) of a DoRA, which is PEFT's own, by PEFT's endings."""
    ends = {"lora_A": "lora_A.weight", "lora_B": "lora_B.weight"}
    ends["lora_magnitude"] = "lora_magnitude_vector"
    factors = layer.factors()
    return {end: factors[part].detach().cpu().contiguous() for part, end in ends.items()}


def _lora(method: str, name: str, layer: AdapterLayer) -> dict[str, torch.Tensor]:
    """Return A (r, d_in) and B (d_out, r) on the CPU, where the update is scaling * B A."""
    product = as_product(layer)
    if product is None:
        raise ValueError(
            f"{name}: the update of adapter '{method}' is not alpha / r B A, so it is no LoRA of "
            "PEFT's: --to hf takes the merged model"
        )
    down, up = (factor.cpu().float().contiguous() for factor in product)
    return {"lora_A.weight": down, "lora_B.weight": up}
