"""Make an experiment of the unadapted base (`--adapter none`), so that ESPnet can decode it.

Stage 12 of ESPnet's asr.sh wants a config.yaml and a checkpoint. The base needs neither training
nor a copy of Whisper's weights: config.yaml is the one that training would have written, and the
checkpoint is a mark of a few bytes that the checked load knows and compares with the base.

Every option that is not listed goes to espnet2.bin.asr_train, as a recipe would give it there.
"""

import argparse
import logging

from espnet_blora.plugin.settings import Settings
from espnet_blora.utils.mistakes import users_mistake, wants_traceback

DESCRIPTION = __doc__


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this program's own options."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        *("--asr_config", "--config"),
        dest="asr_config",
        required=True,
        help="the training yaml; its adapter options are left out",
    )
    parser.add_argument("--token_list", required=True, help="tokens.txt of stage 5")
    parser.add_argument("--output_dir", required=True, help="asr_exp of the base model")
    parser.add_argument(
        "--whisper",
        default=Settings.current().whisper,
        help="published size or checkpoint file (default: what the launcher was given)",
    )
    parser.add_argument(
        "--model_file",
        default="base.pth",
        help="name of the mark in output_dir, for --inference_asr_model (default: %(default)s)",
    )
    parser.add_argument("--token_type", default="whisper_multilingual")
    parser.add_argument("--bpemodel", default=None, help="default: the token type, as in asr.sh")
    parser.add_argument("--log_level", default="INFO")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Write config.yaml and the mark; a user's mistake is one line and status 1."""
    parser = get_parser()
    args, rest = parser.parse_known_args(cmd)
    logging.basicConfig(
        level=args.log_level.upper(),
        format="%(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s",
    )
    from espnet_blora.plugin.base_model import write_base_model

    try:
        write_base_model(
            asr_config=args.asr_config,
            token_list=args.token_list,
            output_dir=args.output_dir,
            whisper=args.whisper,
            model_file=args.model_file,
            options=[
                *("--token_type", args.token_type),
                *("--bpemodel", args.bpemodel or args.token_type),
                *rest,
            ],
        )
    except (ValueError, OSError) as error:
        if users_mistake(error) is None or wants_traceback():
            raise
        parser.exit(1, f"base_model: error: {users_mistake(error)}\n")


if __name__ == "__main__":
    main()
