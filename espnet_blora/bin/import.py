"""Make an experiment of a Whisper that was trained elsewhere, to decode, sweep, report and repair.

SOURCE is a folder: a LoRA of Hugging Face PEFT (adapter_config.json), a wholly trained Whisper of
transformers (config.json; --rank keeps a LoRA of what was trained, and prints its error), or an
experiment of stock ESPnet with `adapter: lora` (config.yaml). --base is the Whisper that it was
trained from. PEFT and transformers open SOURCE too, and must compute what the experiment computes,
or nothing is left and the status is 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from espnet_blora.utils.program import Parser, program


def get_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser("import", __doc__)
    add = parser.add_argument
    add("source", type=Path, help="folder of the trained model")
    add("asr_exp", type=Path, help="experiment folder to be made, such as exp/asr_lora_theirs")
    add("--base", required=True, help="published size or checkpoint file of the base")
    add("--rank", type=int, help="of a wholly trained model: keep a LoRA of this rank")
    add("--model_file", help="checkpoint of an ESPnet experiment (default: the best epoch's)")
    add("--pad_to", default="30s", choices=("30s", "batch"), help="how it was trained to hear")
    add("--threads", type=int, help="CPU threads (default: torch's choice)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Read, write the experiment, compare; return the status.

    Raises:
        FileNotFoundError: No such source or base.
        ValueError: It is damaged, of another base, or more than can be taken in.
    """
    from espnet_blora.decoding.recogniser import open_experiment, read_checkpoint, set_threads
    from espnet_blora.decoding.training_config import find_checkpoint, read_mapping
    from espnet_blora.export import check, from_hf
    from espnet_blora.export.from_espnet import read_loralib
    from espnet_blora.export.write import check_free
    from espnet_blora.plugin.incoming import write_experiment
    from espnet_blora.utils import atomic
    from espnet_blora.whisper.checkpoint import is_published, load_whisper
    from espnet_blora.whisper.vocabulary import Vocabulary

    # What it is.
    set_threads(args.threads)
    check_free(args.asr_exp)
    names = (from_hf.PEFT_CONFIG, from_hf.HF_CONFIG, "config.yaml")
    kind = next((name for name in names if (args.source / name).is_file()), None)
    if kind is None:
        raise FileNotFoundError(f"{args.source}: holds none of {', '.join(names)}")
    for option, of in (("rank", from_hf.HF_CONFIG), ("model_file", "config.yaml")):
        if getattr(args, option) is not None and kind != of:
            raise ValueError(f"--{option}: {args.source} has no {of}; leave it out")
    plain = load_whisper(args.base, start=False).eval()
    Vocabulary.of(plain.dims.n_vocab)  # refuses an English-only base

    # The model.
    if kind == from_hf.PEFT_CONFIG:
        incoming = from_hf.read_peft(args.source, plain)
    elif kind == from_hf.HF_CONFIG:
        incoming = from_hf.read_hf(args.source, plain, args.rank)
    else:
        file = find_checkpoint(args.source, args.model_file)
        config = read_mapping(args.source / kind)
        incoming = read_loralib(config, read_checkpoint(file), plain, str(file))

    # The experiment, and what the readers of its source make of it.
    base = args.base if is_published(args.base) else str(Path(args.base).resolve())
    try:
        with atomic.new_folder(args.asr_exp) as part:
            write_experiment(incoming, base, part, str(args.asr_exp), args.pad_to)
            opened = open_experiment(part, packed=False)
            if kind != "config.yaml" and args.rank is None:
                check.compare_logits(args.source, plain, opened)
    except check.Differs as error:
        sys.stderr.write(f"import: {error}\n")
        return 1
    for note in incoming.notes:
        sys.stdout.write(f"{note}\n")
    method = "all weights" if incoming.method is None else incoming.method
    options = "".join(
        f", {key} {incoming.options[key]:g}" for key in ("rank", "alpha") if key in incoming.options
    )
    sys.stdout.write(f"{args.asr_exp}: {method}{options}, of {args.source}\n")
    return 0


main = program(get_parser, run)

if __name__ == "__main__":
    sys.exit(main())
