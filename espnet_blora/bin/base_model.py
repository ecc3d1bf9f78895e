"""Make an experiment of the unadapted base (`--adapter none`), so that ESPnet can decode it.

Stage 12 of ESPnet's asr.sh wants a config.yaml and a checkpoint. The base needs neither training
nor a copy of Whisper's weights: config.yaml is the one that training would have written, and the
checkpoint is a marker of a few bytes that the checked load knows and compares with the base.

Every option that is not listed goes to espnet2.bin.asr_train, as a recipe would give it there.
"""

import argparse
import logging
import sys

from espnet_blora.plugin.settings import Settings
from espnet_blora.utils.program import Parser, program


class _OpenParser(Parser):
    """A parser that keeps the options it does not know, in `others`."""

    def parse_intermixed_args(self, args=None, namespace=None):
        options, options.others = self.parse_known_args(args, namespace)
        return options


def get_parser() -> Parser:
    """Return the parser of this program's own options."""
    parser = _OpenParser("base_model", __doc__)
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
        help="published size or checkpoint file; if not given, that of the launcher",
    )
    parser.add_argument(
        "--model_file",
        default="base.pth",
        help="name of the marker in output_dir, for --inference_asr_model",
    )
    parser.add_argument("--token_type", default="whisper_multilingual", help="as in asr.sh")
    parser.add_argument("--bpemodel", help="as in asr.sh; if not given, the token type")
    parser.add_argument("--log_level", default="INFO", help="DEBUG shows tracebacks too")
    return parser


def make(args: argparse.Namespace) -> None:
    """Write config.yaml and the marker."""
    from espnet_blora.plugin.base_model import write_base_model

    logging.getLogger().setLevel(args.log_level.upper())
    write_base_model(
        asr_config=args.asr_config,
        token_list=args.token_list,
        output_dir=args.output_dir,
        whisper=args.whisper,
        model_file=args.model_file,
        options=[
            *("--token_type", args.token_type),
            *("--bpemodel", args.bpemodel or args.token_type),
            *args.others,
        ],
    )


main = program(get_parser, make)

if __name__ == "__main__":
    sys.exit(main())
