"""A model card for Hugging Face: the report's figures of one adapted system, and how to load it.

Every word of it comes from the experiment's files and from the options: what is not known is left
out. The block at its head is that of https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from espnet_blora.report.build import Request, gather, other_scored_sets
from espnet_blora.report.collect import scored_sets
from espnet_blora.report.estimates import Analysis, analyse, estimate_text, level
from espnet_blora.report.experiments import SEED, Experiment, System, make_systems
from espnet_blora.report.page import ABSENT, percent, table_markdown

# unit -> (type, name); the hub's own "mer" is another measure, the match error rate
METRICS = {
    "wer": ("wer", "word error rate"),
    "cer": ("cer", "character error rate"),
    "mer": ("mixed_error_rate", "mixed error rate"),
}
MIXED = "Mixed error rate: a Han or Kana character is one token, other scripts are cut into words."
LOAD = """\
The files below come from `espnet-blora export EXPERIMENT FOLDER --to hf` (or `--to openai`), and of
ESPnet's stage 14. Readers outside ESPnet pad every wave to 30 s{window}.

**transformers**

```python
from transformers import WhisperForConditionalGeneration, WhisperProcessor

processor = WhisperProcessor.from_pretrained("{repo}")
model = WhisperForConditionalGeneration.from_pretrained("{repo}")
features = processor(wave, sampling_rate=16000, return_tensors="pt").input_features
ids = model.generate(features, language="{language}", task="transcribe", num_beams=1)
print(processor.batch_decode(ids, skip_special_tokens=True)[0])
```

**faster-whisper**

```sh
ct2-transformers-converter --model {repo} --output_dir ct2 \\
    --copy_files tokenizer.json preprocessor_config.json
```

```python
from faster_whisper import WhisperModel

segments, _ = WhisperModel("ct2").transcribe("talk.wav", language="{language}", beam_size=1)
```

**openai-whisper**

```python
import whisper

print(whisper.load_model("model.pt").transcribe("talk.wav", language="{language}")["text"])
```

**ESPnet**, with the package `espnet_blora` installed

```python
from espnet_blora import plugin

plugin.register()
from espnet2.bin.asr_inference import Speech2Text

model = Speech2Text.from_pretrained("{packed}", beam_size=1, maxlenratio=-200)
print(model(wave, language="{language}")[0][0])
```
"""


@dataclass(frozen=True)
class Words:
    """What the figures do not say.

    Attributes:
        title: The card's title.
        repo: The model's name on the hub, `ORGANISATION/NAME`, or its folder.
        licence: Hugging Face's word for the licence of the weights.
        base_model: The base's name on the hub; empty for a base that is not there.
    """

    title: str
    repo: str
    licence: str
    base_model: str = ""


def analysed(request: Request, all_others: bool) -> tuple[Analysis, System]:
    """Return the figures of the one experiment that a request names, and its system.

    Args:
        request: Without a base's name, the base is the `asr_none` of the same ending.
        all_others: Take every other scored set as a retention set.

    Raises:
        ValueError: No test set is named, or the experiment is not there; says what is there.
    """
    (name,) = request.experiments
    scored = scored_sets(request.exp, request.inference_tag)
    if request.roles.get("base") is None:
        stem = SEED.sub("", name)
        bases = [n for n in scored if n.startswith("asr_none") and stem.endswith(n[8:])]
        request.roles["base"] = max(bases, key=len, default="")
    if all_others or not request.test_sets:
        request.retention_sets = other_scored_sets(request)
    systems = make_systems(gather(request), (), ())
    analysis = analyse(systems, request.test_sets, request.retention_sets)
    found = [s for s in systems if s.adapted and any(run.exists for run in s.runs)]
    if not found:
        raise ValueError(
            f"{request.exp / name}: no such adapted experiment; scored there: "
            f"{', '.join(scored) or 'none'}"
        )
    return analysis, found[0]


def card(analysis: Analysis, system: System, words: Words) -> str:
    """Return the card of a system as Markdown, its metadata block first.

    Raises:
        ValueError: No set has a score of it.
    """
    run = system.runs[0]
    if not any(system.rates(name) for name in analysis.sets):
        raise ValueError(
            f"{run.folder} has no score of {', '.join(analysis.sets)}: run stages 12 and 13 first"
        )
    languages = (run.config.get("training_data") or {}).get("languages") or {}
    codes = list(languages) or [c for n in analysis.test_sets for c in _heard(run, n)]
    parts = [
        f"---\n{metadata(analysis, system, words, codes)}---",
        f"# {words.title}",
        _what(run, words),
        "## Results",
        *_results(analysis, system),
        "## What it forgot",
        *_forgotten(analysis, system),
        "## How it was trained",
        "\n".join(f"- {fact}" for fact in _training(run, languages)),
        "## How to load it",
        LOAD.format(
            repo=words.repo,
            language=next(iter(codes), "LANGUAGE"),
            packed=f"{run.name}_valid.acc.best.zip",
            window=_window(run),
        ).rstrip(),
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(analysis, run)),
    ]
    return "\n\n".join(parts) + "\n"


def metadata(analysis: Analysis, system: System, words: Words, languages: Sequence[str]) -> str:
    """Return the YAML block at the head: licence, languages, base, tags, results."""
    results: list[dict[str, Any]] = []
    for name in analysis.sets:
        rate, treated = system.rate(name), analysis.treated.get(name)
        if rate is None or treated is None:
            continue
        kind, told = METRICS.get(treated.unit, (treated.unit, treated.unit))
        told += f", {'new domain' if name in analysis.test_sets else 'what the base could do'}"
        metric = {"type": kind, "name": told, "value": round(100 * rate, 2)}
        results.append(
            {
                "task": {"type": "automatic-speech-recognition"},
                "dataset": {"name": name, "type": name},
                "metrics": [metric],
            }
        )
    block: dict[str, Any] = {"license": words.licence}
    if languages:
        block["language"] = list(languages)
    if words.base_model:
        block["base_model"] = words.base_model
    block |= {
        "library_name": "transformers",
        "pipeline_tag": "automatic-speech-recognition",
        "tags": ["whisper", "espnet", "espnet_blora", _method(system.runs[0])],
        "metrics": sorted({result["metrics"][0]["type"] for result in results}),
        "model-index": [{"name": words.title, "results": results}],
    }
    return yaml.safe_dump(block, sort_keys=False, allow_unicode=True)


def _heard(run: Experiment, name: str) -> Iterable[str]:
    """Return the codes of the languages that a set was scored by."""
    return run.groups.get(name, {}).get("by_language", {})


def _method(run: Experiment) -> str:
    return "full-fine-tuning" if run.full else str(run.config.get("adapter", "lora"))


def _what(run: Experiment, words: Words) -> str:
    """Say in one paragraph what this is."""
    how = "all weights trained" if run.full else f"adapter `{_method(run)}`"
    base = f"`{words.base_model}`" if words.base_model else "A Whisper"
    return (
        f"{base}, adapted to new speech with ESPnet and the plugin espnet_blora ({how}). Its "
        "errors were counted on the new domain and on what the base could do before."
    )


def _results(analysis: Analysis, system: System) -> Iterable[str]:
    """Yield error rates before and after, by set."""
    systems = [s for s in (analysis.base, system) if s is not None]
    head = ["set", "what", "scored as", *(s.label for s in systems)]
    rows = [
        [
            name,
            "new domain" if name in analysis.test_sets else "what the base could do",
            str(analysis.treated[name]) if name in analysis.treated else ABSENT,
            *(level(analysis.rates.get((s.name, name))).text for s in systems),
        ]
        for name in analysis.sets
    ]
    yield "Error rates in per cent, with 95 % intervals."
    yield table_markdown(head, rows)
    if any(treated.unit == "mer" for treated in analysis.treated.values()):
        yield MIXED


def _forgotten(analysis: Analysis, system: System) -> Iterable[str]:
    """Yield the change on each retention set, or that it was not measured."""
    rows = []
    for name in analysis.retention_sets:
        rise = analysis.rise(system, name)
        if rise is not None:
            relative = analysis.degradation.get((system.name, name))
            rows.append([name, percent(rise, sign=True), estimate_text(relative)])
    if not rows:
        yield "**Forgetting was not measured**: no set of what the base could do was scored."
        return
    yield (
        "Change of the error on what the base could do before: in points, and relative to the "
        "base's error in per cent; positive is worse."
    )
    yield table_markdown(["set", "points", "relative"], rows)


def _training(run: Experiment, languages: dict[str, int]) -> Iterable[str]:
    """Yield what config.yaml and the log say."""
    whisper = (run.config.get("encoder_conf") or {}).get("whisper_model")
    if whisper:
        yield f"Base: `{str(whisper).rpartition('/')[2]}`"
    if languages:
        told = ", ".join(f"{code} {count:,}" for code, count in languages.items())
        yield f"Utterances by language: {told}"
    seconds = (run.config.get("training_data") or {}).get("seconds")
    if seconds:
        yield "Length of an utterance: median {median} s, longest {longest} s".format(**seconds)
    if run.full:
        yield "Method: all weights"
    elif conf := run.config.get("adapter_conf"):
        options = ", ".join(f"`{key}: {value}`" for key, value in conf.items())
        yield f"Method: `{_method(run)}` with {options}"
    if run.training and run.training.trainable and run.training.total:
        trained, total = run.training.trainable, run.training.total
        yield f"Trainable parameters: {trained:,} of {total:,} ({percent(trained / total, 2)} %)"
    for key in ("optim_conf", "max_epoch", "seed"):
        if key in run.config:
            yield f"`{key}`: `{run.config[key]}`"


def _window(run: Experiment) -> str:
    pad = (run.config.get("encoder_conf") or {}).get("pad_to", "30s")
    return "" if pad == "30s" else f", this one was trained with `pad_to: {pad}`: measure it there"


def _limits(analysis: Analysis, run: Experiment) -> Iterable[str]:
    yield "Its figures hold for speech like that of the sets above. Other speech was not measured."
    yield "Like every Whisper it can write fluent words that nobody said, in silence above all."
    if analysis.left_out:
        yield f"Not scored: {', '.join(analysis.left_out)}."
    for warning in analysis.warnings:
        yield " ".join(warning.split())
