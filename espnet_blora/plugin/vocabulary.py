"""Stage 5 for Whisper: `tokens.txt` of the size the launcher was given.

Takes the place of `espnet2.bin.whisper_export_vocabulary.export_vocabulary`, which knows one size
and needs the 2023 openai-whisper. The stamp of the file is its whole content:
`Vocabulary.of_tokens` compares every line before a model is built, so a file of another size
can never be used. Tokens of new languages stand at its end: the token list, which config.yaml
keeps, says which there are.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_blora.plugin.settings import Settings
from espnet_blora.plugin.tokenizer import check_supported
from espnet_blora.utils import atomic
from espnet_blora.whisper.sizes import dims_of
from espnet_blora.whisper.vocabulary import Vocabulary, read_token_list

logger = logging.getLogger(__name__)


def export_vocabulary(
    output: str,
    whisper_model: str,
    whisper_language: str | None = "en",
    whisper_task: str = "transcribe",
    log_level: str = "INFO",
    add_token_file_name: str = "none",
    sot_asr: bool = False,
    speaker_change_symbol: str = "<sc>",
) -> None:
    """Write the token list of the launcher's Whisper to `output` ("-" is standard output).

    The arguments are those of ESPnet's program. The language plays no part: every language of
    the model is in the list, and behind them those of the launcher's `--new-languages`.

    Raises:
        ValueError: the launcher was not told the size, or an option this plugin refuses.
    """
    logging.basicConfig(
        level=log_level,
        format="%(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s",
    )
    check_supported(whisper_model, whisper_task, add_token_file_name, sot_asr)
    settings = Settings.current()
    spec = settings.whisper
    if spec is None:
        raise ValueError(
            "which Whisper? The token list depends on its size: start the program as "
            "`python3 -m espnet_blora.run --whisper SIZE_OR_FILE -m ...`"
        )
    layout = Vocabulary.of(dims_of(spec).n_vocab, settings.new_languages)
    text = "".join(f"{token}\n" for token in layout.token_list())
    if output == "-":
        sys.stdout.write(text)
        return
    path = Path(output)
    if path.is_file() and read_token_list(path) != layout.token_list():
        logger.warning("%s: of another vocabulary, rewritten for %s", path, layout.stamp)
    atomic.write(path, text)
    logger.info("%s: %s (%s)", path, layout.stamp, spec)


def layout_of(token_list: str | os.PathLike | Sequence[str]) -> Vocabulary:
    """The layout of ESPnet's `token_list` argument: a path, or the list stored in `config.yaml`.

    Raises:
        ValueError: not exactly a Whisper vocabulary.
    """
    if isinstance(token_list, (str, os.PathLike)):
        return Vocabulary.of_tokens(read_token_list(token_list), os.fspath(token_list))
    return Vocabulary.of_tokens(list(token_list), "token_list")


def check_vocabulary(layout: Vocabulary, n_vocab: int, spec: str) -> None:
    """Check that a token list is that of the model.

    Raises:
        ValueError: it is of another size (a fresh embedding would forget every word).
    """
    if layout.n_vocab != n_vocab:
        raise ValueError(
            f"token list with {layout.n_vocab} tokens, but Whisper {spec!r} has {n_vocab}: the "
            "list was written for another size. Run stage 5 again with --whisper as in training "
            "(and use one --token_list directory per size)."
        )


def check_new_languages(
    layout: Vocabulary, wanted: Sequence[str], where: str = "token list"
) -> None:
    """Check that a token list has the new languages that the launcher was told of.

    Raises:
        ValueError: it has others, or the same in another order (their ids would differ).
    """
    if layout.new_languages == tuple(wanted):
        return
    there, here = (" ".join(codes) or "none" for codes in (layout.new_languages, wanted))
    raise ValueError(
        f"{where}: its new languages are {there}, the launcher's --new-languages says {here}. Run "
        "stage 5 again with the same --new_languages as now, or give those of the list."
    )
