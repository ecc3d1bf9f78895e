"""Decode sets with an adapter's update turned down step by step: the rival that costs nothing.

One process, one load of the model. Scale 0 is the base model, 1 the adapted one, of
whatever method: an adapted layer computes base(x) + scale * update(x). For a fully fine-tuned model
the weights are interpolated. Texts go to ASR_EXP/scale_sweep/<scale>/<set>/text, counts to
ASR_EXP/scale_sweep.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

from espnet_blora.bin import make_config
from espnet_blora.utils import atomic
from espnet_blora.utils.mistakes import users_mistake, wants_traceback

SCALES = "0 0.25 0.4 0.5 0.6 0.7 0.8 0.9 1"
SEARCH = ("beam_size", "maxlenratio", "minlenratio", "penalty", "normalize_length")
OTHER = ("ctc_weight", "lm_weight", "ngram_weight")
log = logging.getLogger("sweep")


def get_parser() -> argparse.ArgumentParser:
    """Return the options, each with its default."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add_experiment(parser)
    parser.add_argument("--sets", required=True, help="names of sets in --dump, blanks between")
    parser.add_argument("--scales", default=SCALES, help="scales, blanks between")
    parser.add_argument("--unit", default="mer", help="unit of the score: mer, wer or cer")
    parser.add_argument("--normalisation", default="basic", help="treatment of both sides")
    parser.add_argument("--batch_size", type=int, default=50, help="utterances decoded together")
    parser.add_argument(
        "--inference_config",
        type=Path,
        help=f"decoding yaml; {', '.join(SEARCH)} are taken (default: greedy)",
    )
    parser.add_argument("--out", type=Path, help="result (default: ASR_EXP/scale_sweep.json)")
    return parser


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """Add the options of programs that open an experiment and read sets."""
    parser.add_argument("--asr_exp", type=Path, required=True, help="experiment folder of stage 11")
    parser.add_argument(
        "--model_file", help="checkpoint in it (default: best epoch, else the base)"
    )
    parser.add_argument("--whisper", help="published size or checkpoint file of the base")
    parser.add_argument("--dump", type=Path, default=Path("dump/raw"), help="folder of the sets")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    parser.add_argument("--device", default="cpu", help="torch device")


def run(
    name: str,
    parser: argparse.ArgumentParser,
    argv: list[str] | None,
    work: Callable[[argparse.Namespace], None],
) -> None:
    """Do the work; a user's mistake is one line and status 1."""
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s (%(name)s) %(message)s")
    try:
        work(args)
    except (ValueError, OSError) as error:
        message = users_mistake(error)
        if message is None or wants_traceback():
            raise
        parser.exit(1, f"{name}: error: {message}\n")


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


def search_options(path: Path | None, beam_size: int | None = None):
    """Return the options of the search from a decoding yaml, and a beam size that goes before it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a value that is no number, or not allowed.
    """
    from espnet_blora.decoding.beam import SearchOptions

    conf = {} if path is None else make_config.load(path)
    ignored = [key for key in OTHER if conf.get(key)]
    if ignored:
        log.warning("%s: %s: this search has none; ignored", path, ", ".join(ignored))
    found = {key: conf[key] for key in SEARCH if key in conf}
    odd = {key: value for key, value in found.items() if not isinstance(value, int | float)}
    if odd:
        raise ValueError(f"{path}: {odd}; numbers are needed")
    return SearchOptions(**found | ({} if beam_size is None else {"beam_size": beam_size}))


def read_waves(folder: Path, most: int | None = None) -> tuple[dict, dict]:
    """Waves and texts of a dumped set, by utterance id; `most` of them, spread over sorted ids.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: the two files do not hold the same utterances, or `most` is below 1.
    """
    import torch

    from espnet_blora.data import audio
    from espnet_blora.utils.keyed import read_keyed

    paths, texts = read_keyed(folder / "wav.scp"), read_keyed(folder / "text")
    odd = sorted(paths.keys() ^ texts.keys())
    if odd:
        raise ValueError(
            f"{folder}: wav.scp and text do not hold the same utterances, first {odd[0]}; run "
            "utils/fix_data_dir.sh on it"
        )
    if most is not None and most < 1:
        raise ValueError(f"{most} utterances of each set are asked for; allowed: 1 or more")
    count = min(most or len(paths), len(paths))
    ids = sorted(paths)
    kept = [ids[number * len(ids) // count] for number in range(count)]
    waves = {uid: torch.from_numpy(audio.read(paths[uid])) for uid in kept}
    return waves, {uid: texts[uid] for uid in kept}


def read_set(folder: Path, layout, most: int | None = None) -> tuple[dict, dict, dict]:
    """Waves, prompts and references of a dumped set, by utterance id; see `read_waves`."""
    from espnet_blora.data.kaldi import read_utt2lang

    language = read_utt2lang(folder / "utt2lang", layout.languages)
    waves, references = read_waves(folder, most)
    missing = sorted(waves.keys() - language.keys())
    if missing:
        raise ValueError(
            f"{folder / 'utt2lang'}: lacks {len(missing)} utterances of wav.scp, first "
            f"{missing[0]}; add the line '{missing[0]} CODE'"
        )
    return waves, {uid: layout.prompt(language[uid]) for uid in waves}, references


def main(argv: list[str] | None = None) -> None:
    """Decode every set at every scale; a user's mistake is one line and status 1."""
    run("sweep", get_parser(), argv, sweep)


def sweep(args: argparse.Namespace) -> None:
    """Decode every set at every scale and write the counts.

    Raises:
        FileNotFoundError: the experiment or a set is not there.
        ValueError: a checkpoint or a set that does not fit.
    """
    import torch

    from espnet_blora import plugin
    from espnet_blora.adapters import get_adapter
    from espnet_blora.decoding.batch import decode
    from espnet_blora.decoding.scaling import moved
    from espnet_blora.scoring.errors import score
    from espnet_blora.utils.keyed import write_keyed
    from espnet_blora.whisper.vocabulary import Vocabulary

    scales = numbers(args.scales)
    torch.set_num_threads(args.threads)
    plugin.register(whisper=args.whisper)
    from espnet_blora.plugin.experiment import base_state, open_experiment, recogniser_of

    model = open_experiment(args.asr_exp, args.model_file, args.device)
    needs_base = get_adapter(model) is None and scales != [1.0]
    base = base_state(args.asr_exp) if needs_base else None
    layout = Vocabulary.of_tokens(model.token_list)
    sets = {name: read_set(args.dump / name, layout) for name in args.sets.split()}
    options = search_options(args.inference_config)
    recogniser = recogniser_of(model, layout, str(args.asr_exp))
    rows = []
    for scale in scales:
        for name, (waves, prompts, references) in sets.items():
            with moved(model, scale, base):
                found = decode(recogniser, waves, prompts, options, batch_size=args.batch_size)
            texts = {
                uid: " ".join(layout.decode(best[0].ids if best else ()).split())
                for uid, best in found.items()
            }
            folder = args.asr_exp / "scale_sweep" / f"{scale:g}" / name
            folder.mkdir(parents=True, exist_ok=True)
            write_keyed(folder / "text", texts)
            result = score(references, texts, args.unit, normalisation=args.normalisation)
            rows.append({"scale": scale, "set": name, **result.summary()})
            log.info("scale %g, %s: %.2f %%", scale, name, 100 * (result.rate or 0.0))
    out = args.out or args.asr_exp / "scale_sweep.json"
    atomic.write(out, json.dumps(rows, indent=1) + "\n")
    log.info("wrote %s", out)


if __name__ == "__main__":
    main()
