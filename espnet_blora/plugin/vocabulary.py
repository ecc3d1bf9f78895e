"""Whisper's vocabulary under ESPnet: token list, tokenizer, id converter, added languages.

One class takes the places of `espnet2.text.whisper_tokenizer.OpenAIWhisperTokenizer` and
`espnet2.text.whisper_token_id_converter.OpenAIWhisperTokenIDConverter`, which need the 2023
release of openai-whisper. Text tokens are the same in every multilingual size, so ESPnet may build
the tokenizer without knowing the size; who needs control tokens passes a `Vocabulary`.

The stamp of `tokens.txt` is its whole content: `Vocabulary.of_tokens` compares every line before a
model is built, so a file of another size can never be used. Tokens of new languages stand at its
end. config.yaml keeps the list, so decoding needs no option for them.
"""

from __future__ import annotations

import logging
import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

from espnet2.text.abs_tokenizer import AbsTokenizer

from espnet_blora.plugin.settings import Settings
from espnet_blora.utils import atomic
from espnet_blora.whisper.new_tokens import check_agreement
from espnet_blora.whisper.sizes import dims_of
from espnet_blora.whisper.vocabulary import Vocabulary, read_token_list

MODEL_TYPE = "whisper_multilingual"
DEFAULT_N_VOCAB = 51865
log = logging.getLogger(__name__)


def default_vocabulary() -> Vocabulary:
    """Return the vocabulary of the launcher's `--whisper` and `--new_languages`.

    Without a Whisper it is that of the sizes before large-v3.
    """
    settings = Settings.current()
    n_vocab = DEFAULT_N_VOCAB if settings.whisper is None else dims_of(settings.whisper).n_vocab
    return Vocabulary.of(n_vocab, settings.new_languages)


def check_supported(
    model_type: str | None,
    task: str | None = "transcribe",
    added_tokens_txt: object = None,
    sot: bool = False,
) -> None:
    """Refuse options that this plugin would otherwise follow wrongly without a word.

    Raises:
        ValueError: English-only vocabulary, another task than transcribing, added tokens
            (they would need fresh embeddings), or speaker-change training.
    """
    if model_type != MODEL_TYPE:
        raise ValueError(f"token type {model_type!r}: only {MODEL_TYPE} is supported")
    if task not in (None, "transcribe"):
        raise ValueError(f"whisper_task {task!r}: only 'transcribe' is supported")
    if added_tokens_txt not in (None, "none", ""):
        raise ValueError(
            f"added tokens ({added_tokens_txt}): Whisper's vocabulary is fixed here, new tokens "
            "would need untrained embeddings; leave out --nlsyms_txt and prompt token files"
        )
    if sot:
        raise ValueError("sot_asr true: speaker-change tokens would need untrained embeddings")


class WhisperTokenizer(AbsTokenizer):
    """ESPnet's tokenizer and its id converter in one: text, token strings, ids.

    `tokens.txt` holds one string per id; the preprocessor adds the prompt. The arguments are those
    of ESPnet's two classes, which are given by name.
    """

    def __init__(
        self,
        model_type: str = MODEL_TYPE,
        language: str | None = None,
        task: str | None = "transcribe",
        added_tokens_txt: str | None = None,
        sot: bool = False,
        speaker_change_symbol: str = "<sc>",
        vocabulary: Vocabulary | None = None,
    ):
        check_supported(model_type, task, added_tokens_txt, sot)
        self.vocabulary = vocabulary or default_vocabulary()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.vocabulary.stamp})"

    def text2tokens(self, line: str) -> list[str]:
        """Return the token strings of a text."""
        return self.vocabulary.tokens(self.vocabulary.encode(line))

    def tokens2text(self, tokens: Iterable[str]) -> str:
        """Return the text of token strings, control tokens left out."""
        return self.vocabulary.decode(self.vocabulary.ids(tokens))

    @property
    def tokenizer(self):
        """The tokenizer of openai-whisper (ESPnet reads a default prompt from it)."""
        return self.vocabulary.tokenizer

    def get_num_vocabulary_size(self) -> int:
        """Return the number of ids."""
        return self.vocabulary.size

    def ids2tokens(self, integers: Iterable[int]) -> list[str]:
        """Return the token strings of ids."""
        return self.vocabulary.tokens(int(i) for i in integers)

    def tokens2ids(self, tokens: Iterable[str]) -> list[int]:
        """Return the ids of token strings."""
        return self.vocabulary.ids(tokens)


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
    the model is in the list, and behind them those of the launcher's `--new_languages`.

    Raises:
        ValueError: The launcher was not told the size, or an option this plugin refuses.
    """
    logging.basicConfig(
        level=log_level,
        format="%(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s",
    )
    check_supported(whisper_model, whisper_task, add_token_file_name, sot_asr)
    spec = Settings.current().whisper
    if spec is None:
        raise ValueError(
            "which Whisper? The token list depends on its size: start the program as "
            "`python3 -m espnet_blora.run --whisper SIZE_OR_FILE -m ...`"
        )
    vocabulary = default_vocabulary()
    text = "".join(f"{token}\n" for token in vocabulary.token_list())
    if output == "-":
        sys.stdout.write(text)
        return
    path = Path(output)
    if path.is_file() and read_token_list(path) != vocabulary.token_list():
        log.warning("%s: of another vocabulary, rewritten for %s", path, vocabulary.stamp)
    atomic.write(path, text)
    log.info("%s: %s (%s)", path, vocabulary.stamp, spec)


def vocabulary_of(token_list: str | os.PathLike | Sequence[str]) -> Vocabulary:
    """Return the vocabulary of ESPnet's `token_list`: a path, or the list in `config.yaml`.

    Raises:
        ValueError: It is not exactly a Whisper vocabulary.
    """
    if isinstance(token_list, (str, os.PathLike)):
        return Vocabulary.of_tokens(read_token_list(Path(token_list)), os.fspath(token_list))
    return Vocabulary.of_tokens(list(token_list), "token_list")


def check_vocabulary(vocabulary: Vocabulary, n_vocab: int, spec: str) -> None:
    """Check that a token list is that of the model.

    Raises:
        ValueError: It is of another size (a fresh embedding would forget every word).
    """
    if vocabulary.n_vocab != n_vocab:
        raise ValueError(
            f"token list with {vocabulary.n_vocab} tokens, but Whisper {spec!r} has {n_vocab}: the "
            "list was written for another size. Run stage 5 again with --whisper as in training "
            "(and use one --token_list directory per size)."
        )


def fill_new_languages(args: Namespace, vocabulary: Vocabulary, trained: bool = False) -> None:
    """Put the token list's new languages into `decoder_conf`, where the decoder reads them.

    Args:
        args: The task's arguments; changed in place.
        vocabulary: The vocabulary of the token list.
        trained: The arguments are the config.yaml of a trained model, whatever the launcher says.

    Raises:
        ValueError: The launcher's `--new_languages` or the yaml say others, or the same in another
            order (their ids would differ).
    """
    asked = Settings.current().new_languages
    if not trained and vocabulary.new_languages != asked:
        listed, given = (" ".join(codes) or "none" for codes in (vocabulary.new_languages, asked))
        raise ValueError(
            f"token list: its new languages are {listed}, the launcher's --new_languages says "
            f"{given}. Run stage 5 again with the same --new_languages as now, or give those of "
            "the list."
        )
    conf = dict(args.decoder_conf or {})
    check_agreement(conf.get("new_languages"), vocabulary)
    if vocabulary.new_languages:
        conf["new_languages"] = list(vocabulary.new_languages)
        args.decoder_conf = conf
