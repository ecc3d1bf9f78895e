"""Puts our Whisper in the places of ESPnet's: encoder, decoder, tokenizer, vocabulary, decoding.

Every place is replaced, none is edited on disk, and doing it twice changes nothing. What a place
does is decided when it is used (`Settings.current()`), so settings may change afterwards.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from espnet_blora.plugin.settings import Settings

_MARK = "_espnet_blora_whisper"


def register_whisper(settings: Settings | None = None) -> None:
    """Plug our Whisper into ESPnet in this process.

    Args:
        settings: exported to the environment if given, where every part reads them.
    """
    if settings is not None:
        settings.export()
    _replace_vocabulary()
    _replace_text()
    _replace_reading()
    _replace_task()
    _replace_inference()


def _replace_vocabulary() -> None:
    from espnet2.bin import whisper_export_vocabulary

    from espnet_blora.plugin.vocabulary import export_vocabulary

    whisper_export_vocabulary.export_vocabulary = export_vocabulary


def _replace_text() -> None:
    from espnet2.text import build_tokenizer
    from espnet2.train import preprocessor

    from espnet_blora.plugin.vocabulary import WhisperTokenIDConverter, WhisperTokenizer

    build_tokenizer.OpenAIWhisperTokenizer = WhisperTokenizer
    preprocessor.OpenAIWhisperTokenizer = WhisperTokenizer
    preprocessor.OpenAIWhisperTokenIDConverter = WhisperTokenIDConverter


def _replace_reading() -> None:
    from espnet2.train import dataset, iterable_dataset

    from espnet_blora.plugin.data_checks import naming_file, naming_reader

    one = iterable_dataset.DATA_TYPES["sound"]
    if getattr(one, _MARK, None):
        return
    iterable_dataset.DATA_TYPES["sound"] = naming_file(one)
    setattr(iterable_dataset.DATA_TYPES["sound"], _MARK, True)
    all_of_them = dataset.DATA_TYPES["sound"]
    all_of_them["func"] = naming_reader(all_of_them["func"])


def _replace_task() -> None:
    from espnet2.tasks import asr

    from espnet_blora.plugin.preprocessor import WhisperPreprocessor
    from espnet_blora.plugin.whisper_parts import WhisperDecoder, WhisperEncoder

    asr.encoder_choices.classes["whisper"] = WhisperEncoder
    asr.decoder_choices.classes["whisper"] = WhisperDecoder
    asr.preprocessor_choices.classes["default"] = WhisperPreprocessor
    _wrap(asr.ASRTask, "build_model", _with_whisper)
    _wrap(asr.ASRTask, "build_model_from_file", _from_file)
    _wrap(asr.ASRTask, "build_iter_options", _with_training_languages)
    _wrap(asr.ASRTask, "build_streaming_iterator", _with_streamed_languages)


def _replace_inference() -> None:
    from espnet2.bin import asr_inference

    from espnet_blora.plugin import espnet_inference
    from espnet_blora.plugin.vocabulary import WhisperTokenIDConverter

    asr_inference.OpenAIWhisperTokenIDConverter = WhisperTokenIDConverter
    asr_inference.Speech2Text = espnet_inference.WhisperSpeech2Text
    asr_inference.inference = espnet_inference.inference


def _wrap(owner: type, name: str, wrapper: Callable[..., Any]) -> None:
    """Make class method `name` call `wrapper(original, cls, *args, **kwargs)`; once only."""
    original = getattr(owner, name).__func__
    layer = original
    while layer is not None:
        if getattr(layer, _MARK, None) is wrapper:
            return
        layer = getattr(layer, "__wrapped__", None)

    @functools.wraps(original)
    def replacement(cls, *args, **kwargs):
        return wrapper(original, cls, *args, **kwargs)

    setattr(replacement, _MARK, wrapper)
    setattr(owner, name, classmethod(replacement))


_from_trained = False


def _from_file(original: Callable, cls: type, *args: Any, **kwargs: Any) -> Any:
    """`build_model_from_file`: the stored configuration names the Whisper, not the launcher."""
    global _from_trained
    _from_trained = True
    try:
        return original(cls, *args, **kwargs)
    finally:
        _from_trained = False


def _with_whisper(original: Callable, cls: type, args: Any) -> Any:
    """`build_model`: fill in the Whisper and check the token list before weights are loaded."""
    from espnet_blora.plugin.vocabulary import check_vocabulary, fill_new_languages, layout_of
    from espnet_blora.plugin.whisper_parts import fill_whisper_model, forget
    from espnet_blora.whisper.sizes import dims_of

    spec = fill_whisper_model(args, trained=_from_trained)
    if spec is not None and args.decoder == "whisper":
        layout = layout_of(args.token_list)
        check_vocabulary(layout, dims_of(spec).n_vocab, spec)
        fill_new_languages(args, layout, trained=_from_trained)
    try:
        return original(cls, args)
    finally:
        forget()


def _bind(preprocess: Any, data: Any, decoding: bool, spec: str | None) -> None:
    from espnet_blora.plugin.data_checks import Languages, check_utterances
    from espnet_blora.plugin.preprocessor import WhisperPreprocessor
    from espnet_blora.whisper.sizes import dims_of

    if not isinstance(preprocess, WhisperPreprocessor) or preprocess.layout is None:
        return
    check_utterances(data)
    languages = Languages.of_arguments(data, preprocess.layout)
    if spec is None:
        preprocess.bind(languages, decoding)
    else:
        preprocess.bind(languages, decoding, dims_of(spec).n_text_ctx)


def _with_training_languages(
    original: Callable, cls: type, args: Any, *rest: Any, **kwargs: Any
) -> Any:
    """`build_iter_options`: the languages beside the `wav.scp` of training or validation."""
    options = original(cls, args, *rest, **kwargs)
    spec = (getattr(args, "decoder_conf", None) or {}).get("whisper_model")
    _bind(options.preprocess_fn, options.data_path_and_name_and_type, False, spec)
    return options


def _with_streamed_languages(original: Callable, cls: type, *args: Any, **kwargs: Any) -> Any:
    """`build_streaming_iterator`: statistics and decoding; only the latter wants prompts."""
    given = inspect.signature(original).bind(cls, *args, **kwargs)
    given.apply_defaults()
    arguments = given.arguments
    _bind(
        arguments["preprocess_fn"],
        arguments["data_path_and_name_and_type"],
        bool(arguments["inference"]),
        Settings.current().whisper if not arguments["inference"] else None,
    )
    return original(*given.args, **given.kwargs)
