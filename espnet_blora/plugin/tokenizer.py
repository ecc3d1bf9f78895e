"""ESPnet's tokenizer and id converter for Whisper, over today's openai-whisper (tiktoken).

They take the places of `espnet2.text.whisper_tokenizer.OpenAIWhisperTokenizer` and
`espnet2.text.whisper_token_id_converter.OpenAIWhisperTokenIDConverter`, which need the 2023
release. Text tokens are the same in every multilingual size, so ESPnet may build the tokenizer
without knowing the size; who needs control tokens passes a `Vocabulary`.
"""

from __future__ import annotations

from collections.abc import Iterable

from espnet2.text.abs_tokenizer import AbsTokenizer

from espnet_blora.plugin.settings import Settings
from espnet_blora.whisper.sizes import dims_of
from espnet_blora.whisper.vocabulary import Vocabulary

MODEL_TYPE = "whisper_multilingual"
DEFAULT_N_VOCAB = 51865


def default_layout() -> Vocabulary:
    """The layout of the launcher's `--whisper` and `--new-languages`.

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
    """Refuse what this plugin would otherwise do wrongly in silence.

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
    """Text <-> token strings (`tokens.txt` holds one for every id)."""

    def __init__(
        self,
        model_type: str = MODEL_TYPE,
        language: str | None = None,
        task: str | None = "transcribe",
        sot: bool = False,
        speaker_change_symbol: str = "<sc>",
        added_tokens_txt: str | None = None,
        layout: Vocabulary | None = None,
    ):
        check_supported(model_type, task, added_tokens_txt, sot)
        self.layout = layout or default_layout()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.layout.stamp})"

    def text2tokens(self, line: str) -> list[str]:
        """Text -> token strings."""
        return self.layout.tokens(self.layout.encode(line))

    def tokens2text(self, tokens: Iterable[str]) -> str:
        """Token strings -> text, control tokens left out."""
        return self.layout.text_of_tokens(tokens)


class WhisperTokenIDConverter:
    """Token strings <-> ids; the prompt is the preprocessor's business, none is added here."""

    def __init__(
        self,
        model_type: str = MODEL_TYPE,
        language: str | None = None,
        task: str | None = "transcribe",
        added_tokens_txt: str | None = None,
        sot: bool = False,
        speaker_change_symbol: str = "<sc>",
        layout: Vocabulary | None = None,
    ):
        check_supported(model_type, task, added_tokens_txt, sot)
        self.layout = layout or default_layout()

    @property
    def tokenizer(self):
        """openai-whisper's own tokenizer (ESPnet reads a default prompt from it)."""
        return self.layout.tokenizer

    def get_num_vocabulary_size(self) -> int:
        """Number of ids."""
        return self.layout.size

    def ids2tokens(self, integers: Iterable[int]) -> list[str]:
        """Ids -> token strings."""
        return self.layout.tokens(int(i) for i in integers)

    def tokens2ids(self, tokens: Iterable[str]) -> list[int]:
        """Token strings -> ids."""
        return self.layout.ids(tokens)
