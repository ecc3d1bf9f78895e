"""Decode sets with an adapter's update turned down step by step: the rival that costs nothing.

One process, one load of the model; greedy search. Scale 0 is the base model, 1 the adapted one;
for a fully fine-tuned model the weights are interpolated. Texts go to
ASR_EXP/scale_sweep/<scale>/<set>/text, counts to ASR_EXP/scale_sweep.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from pathlib import Path

import yaml

from espnet_blora.plugin.errors import users_mistake, wants_traceback

SCALES = "0 0.25 0.4 0.5 0.6 0.7 0.8 0.9 1"
log = logging.getLogger("sweep")


def get_parser() -> argparse.ArgumentParser:
    """Return the options, each with its default."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--asr_exp", type=Path, required=True, help="experiment folder of stage 11")
    parser.add_argument(
        "--model_file", help="checkpoint in it (default: best epoch, else the base)"
    )
    parser.add_argument("--dump", type=Path, default=Path("dump/raw"), help="folder of the sets")
    parser.add_argument("--sets", required=True, help="names of sets in --dump, blanks between")
    parser.add_argument("--scales", default=SCALES, help="scales, blanks between")
    parser.add_argument("--whisper", help="published size or checkpoint file of the base")
    parser.add_argument("--unit", default="mer", help="unit of the score: mer, wer or cer")
    parser.add_argument("--normalisation", default="basic", help="treatment of both sides")
    parser.add_argument("--batch_size", type=int, default=50, help="utterances decoded together")
    parser.add_argument(
        "--inference_config", type=Path, help="decoding yaml whose maxlenratio is taken [0.0]"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--out", type=Path, help="result (default: ASR_EXP/scale_sweep.json)")
    return parser


def numbers(text: str) -> list[float]:
    """The scales of the option, sorted.

    Raises:
        ValueError: none, or something that is not a number >= 0.
    """
    try:
        scales = sorted({float(word) for word in text.split()})
    except ValueError as error:
        raise ValueError(f"--scales {text!r}: numbers with blanks between are needed") from error
    if not scales or scales[0] < 0 or scales[-1] == float("inf") or any(s != s for s in scales):
        raise ValueError(f"--scales {text!r}: at least one finite number >= 0 is needed")
    return scales


def max_len_ratio(path: Path | None) -> float:
    """The ``maxlenratio`` of a decoding yaml; 0 without one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a number >= 0, or a beam: this search is greedy.
    """
    if path is None:
        return 0.0
    conf = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    ratio, beam = conf.get("maxlenratio", 0.0), conf.get("beam_size", 1)
    if not isinstance(ratio, int | float) or not 0 <= ratio < float("inf"):
        raise ValueError(f"{path}: maxlenratio is {ratio!r}; a number >= 0 is needed")
    if beam != 1:
        log.warning("%s: beam_size %s; the sweep is greedy all the same", path, beam)
    return float(ratio)


def read_set(folder: Path, layout) -> tuple[dict, dict, dict]:
    """Waves, prompts and references of a dumped set, by utterance id."""
    import torch

    from espnet_blora.data import audio
    from espnet_blora.data.kaldi import read_keyed, read_utt2lang

    references = read_keyed(folder / "text")
    language = read_utt2lang(folder / "utt2lang", layout.languages)
    waves = {u: torch.from_numpy(audio.read(p)) for u, p in read_keyed(folder / "wav.scp").items()}
    missing = sorted(set(waves) ^ set(references) | set(waves) - set(language))
    if missing:
        raise ValueError(
            f"{folder}: wav.scp, text and utt2lang do not hold the same utterances, first "
            f"{missing[0]}; run utils/fix_data_dir.sh on it"
        )
    return waves, {uid: layout.prompt(language[uid]) for uid in waves}, references


def main(argv: list[str] | None = None) -> None:
    """Decode every set at every scale; a user's mistake is one line and status 1."""
    parser = get_parser()
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s (%(name)s) %(message)s")
    try:
        sweep(args, numbers(args.scales))
    except (ValueError, OSError) as error:
        message = users_mistake(error)
        if message is None or wants_traceback():
            raise
        parser.exit(1, f"sweep: error: {message}\n")


def sweep(args: argparse.Namespace, scales: list[float]) -> None:
    """Decode every set at every scale and write the counts.

    Raises:
        FileNotFoundError: the experiment or a set is not there.
        ValueError: a checkpoint or a set that does not fit.
    """
    import torch

    from espnet_blora import plugin
    from espnet_blora.adapters import get_adapter
    from espnet_blora.data.kaldi import write_keyed
    from espnet_blora.decoding.sweep import moved, transcribe
    from espnet_blora.scoring.errors import score
    from espnet_blora.whisper.vocabulary import Layout

    torch.set_num_threads(args.threads)
    plugin.register(whisper=args.whisper)
    from espnet_blora.plugin.experiment import base_state, open_experiment

    model = open_experiment(args.asr_exp, args.model_file, args.device)
    needs_base = get_adapter(model) is None and scales != [1.0]
    base = base_state(args.asr_exp) if needs_base else None
    layout = Layout.of_tokens(model.token_list)
    sets = {name: read_set(args.dump / name, layout) for name in args.sets.split()}
    ratio = max_len_ratio(args.inference_config)
    rows = []
    for scale in scales:
        for name, (waves, prompts, references) in sets.items():
            with moved(model, scale, base):
                ids = transcribe(
                    model.encoder.encoders,
                    model.decoder.decoders,
                    waves,
                    prompts,
                    layout.eot,
                    args.batch_size,
                    model.encoder.pad_to,
                    ratio,
                )
            texts = {uid: " ".join(layout.decode(row).split()) for uid, row in ids.items()}
            folder = args.asr_exp / "scale_sweep" / f"{scale:g}" / name
            folder.mkdir(parents=True, exist_ok=True)
            write_keyed(folder / "text", texts)
            result = score(references, texts, args.unit, normalisation=args.normalisation)
            rows.append({"scale": scale, "set": name, **result.summary()})
            log.info("scale %g, %s: %.2f %%", scale, name, 100 * (result.rate or 0.0))
    out = args.out or args.asr_exp / "scale_sweep.json"
    part = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        part.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    log.info("wrote %s", out)


if __name__ == "__main__":
    main()
