"""ESPnet's own `asr_inference` with one language prompt per utterance, right under batching.

`Speech2Text` of `espnet2.bin.asr_inference` is replaced by a subclass, so the program, its options
and its output stay ESPnet's. Three things differ for a Whisper model: prompts are set per row of
the batch (ESPnet sorts the batch by length and would leave them behind; this needs no sorting),
token 0, which is "!", is kept, and every utterance ends in one output line and one pair of the log
lines that stage 12 counts, or in an error that names it.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Sequence
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np
import torch
from espnet2.bin import asr_inference
from espnet2.bin.asr_inference import Speech2Text as BaseSpeech2Text
from espnet2.bin.asr_inference import inference as base_inference
from espnet2.legacy.nets.beam_search import Hypothesis
from espnet2.torch_utils.device_funcs import is_out_of_memory_error, release_accelerator_memory
from torch import Tensor

from espnet_blora.decoding.batch import check_finite, too_large
from espnet_blora.decoding.chunking import joined
from espnet_blora.plugin.batched_inference import (
    NO_HYPOTHESIS,
    cut_long,
    listed_keys,
)
from espnet_blora.plugin.packing import check_packed, of_whisper
from espnet_blora.plugin.preprocessor import unpack_name
from espnet_blora.plugin.resume import only_run
from espnet_blora.plugin.vocabulary import vocabulary_of
from espnet_blora.plugin.whisper_parts import WhisperDecoder
from espnet_blora.whisper.vocabulary import Vocabulary

log = logging.getLogger(__name__)

Result = tuple[str, list[str], list[int], Hypothesis]
Wave = Tensor | np.ndarray


class WhisperSpeech2Text(BaseSpeech2Text):
    """`Speech2Text` for Whisper models of this plugin; any other model is left to ESPnet.

    Attributes:
        is_whisper: Whether the model is one of this plugin's.
        vocabulary: Its vocabulary then.
        language: What `preprocessor_conf.whisper_language` of its training says.
    """

    vocabulary: Vocabulary
    language: str | None

    def __init__(self, *args: Any, **kwargs: Any):
        """Take ESPnet's arguments.

        Raises:
            ValueError: an option that contradicts a Whisper model.
        """
        for option in ("lang_prompt_token", "nlp_prompt_token", "prompt_token_file"):
            if kwargs.get(option) is not None:
                raise ValueError(f"--{option} is not supported: the language comes from utt2lang")
        given = inspect.signature(BaseSpeech2Text).bind_partial(*args, **kwargs).arguments
        if "ctc_weight" not in given and of_whisper(given.get("asr_train_config")):
            kwargs["ctc_weight"] = 0.0
        super().__init__(*args, **kwargs)
        self.is_whisper = isinstance(self.asr_model.decoder, WhisperDecoder)
        if not self.is_whisper:
            return
        self.vocabulary = vocabulary_of(self.asr_model.token_list)
        if "ctc" in self.beam_search.scorers and self.asr_model.ctc is None:
            raise ValueError(
                "ctc_weight must be 0.0 (--ctc_weight 0.0, or in the decoding yaml): Whisper has "
                "no CTC"
            )
        self.beam_search.token_list = self.vocabulary.readable_tokens()  # only its log uses it
        conf = getattr(self.asr_train_args, "preprocessor_conf", None) or {}
        self.language = conf.get("whisper_language")

    @staticmethod
    def from_pretrained(model_tag: str | None = None, **kwargs: Any) -> BaseSpeech2Text:
        """Open a published or packed model, as ESPnet does; a packed one is checked first.

        Args:
            model_tag: A tag of espnet_model_zoo, or the ZIP file of stage 14.
            kwargs: Arguments of `Speech2Text`.

        Raises:
            ValueError: The file is damaged or no packed model.
        """
        if model_tag is not None and Path(model_tag).is_file():
            check_packed(Path(model_tag))
        return BaseSpeech2Text.from_pretrained(model_tag, **kwargs)

    def __call__(
        self,
        speech: Wave | list[Wave] | tuple[Wave, ...],
        whisper_prompt: Tensor | Sequence[int] | None = None,
        utterance: Tensor | Sequence[int] | None = None,
        language: str | Sequence[str] | None = None,
    ) -> Any:
        """Decode one utterance (S,), or a list of them.

        Args:
            speech: samples at 16 kHz.
            whisper_prompt: prompt ids from our preprocessor; else `language` counts.
            utterance: packed id, for messages.
            language: Whisper language code (of each, for a list); default
                `preprocessor_conf.whisper_language` of the training.

        Returns:
            n-best list of (text, tokens, ids, hypothesis); a list of these for a list.
        """
        if not self.is_whisper:
            return super().__call__(speech)
        if isinstance(speech, (list, tuple)):
            return self.batch_decode(speech, language=language)
        prompts = None if whisper_prompt is None else [whisper_prompt]
        names = None if utterance is None else [utterance]
        return self.batch_decode(
            [speech], whisper_prompt=prompts, utterance=names, language=language
        )[0]

    def batch_decode(
        self,
        speech: Wave | list[Wave] | tuple[Wave, ...],
        speech_lengths: Tensor | Sequence[int] | None = None,
        whisper_prompt: Tensor | Sequence[Tensor | Sequence[int]] | None = None,
        whisper_prompt_lengths: Tensor | None = None,
        utterance: Tensor | Sequence[Tensor | Sequence[int]] | None = None,
        utterance_lengths: Tensor | None = None,
        language: str | Sequence[str] | None = None,
    ) -> list[Any]:
        """Decode a padded batch (B, S) with its lengths, or a list of waves; one n-best list each.

        A batch that does not fit the accelerator's memory is split and tried again.

        Raises:
            ValueError: no lengths for a padded array, or no language.
        """
        if not self.is_whisper:
            return super().batch_decode(speech, speech_lengths)
        if isinstance(speech, (list, tuple)):
            waves = [torch.as_tensor(wave) for wave in speech]
        else:
            if speech_lengths is None:
                raise ValueError("speech_lengths is required for a padded speech array")
            waves = [
                torch.as_tensor(w)[: int(n)] for w, n in zip(speech, speech_lengths, strict=True)
            ]
        if whisper_prompt is None:
            prompts = self._prompts(len(waves), language)
        else:
            prompts = [[int(i) for i in row] for row in whisper_prompt]
        if utterance is None:
            names = [str(number) for number in range(1, len(waves) + 1)]
        else:
            names = [unpack_name(row) for row in utterance]
        return self._decode_utterances(waves, prompts, names)

    def _prompts(self, n: int, language: str | Sequence[str] | None) -> list[list[int]]:
        language = language if language is not None else self.language
        if language is None:
            raise ValueError(
                "no language: pass language='zh' (a Whisper code), one for each utterance of a list"
            )
        codes = [language] * n if isinstance(language, str) else list(language)
        if len(codes) != n:
            raise ValueError(f"{len(codes)} languages for {n} utterances")
        return [self.vocabulary.prompt(code) for code in codes]

    @torch.no_grad()
    def _decode_utterances(
        self, waves: list[Tensor], prompts: list[list[int]], names: list[str]
    ) -> list[list[Result]]:
        """Decode waves of any length; those over 30 s in pieces, whose texts are joined."""
        # pieces of at most 30 s, each with its prompt and name
        cuts = [cut_long(name, wave) for name, wave in zip(names, waves, strict=True)]
        pieces = [
            (wave, prompt, name)
            for parts, prompt, name in zip(cuts, prompts, names, strict=True)
            for wave in parts
        ]
        # batches of pieces
        results: list[list[Result]] = []
        for batch in batched(pieces, max(1, self.batch_size)):
            results += self._decode_pieces(*map(list, zip(*batch, strict=True)))
        # the results of an utterance's pieces as one
        rest = iter(results)
        return [_joined([next(rest) for _ in parts]) for parts in cuts]

    def _decode_pieces(
        self, waves: list[Tensor], prompts: list[list[int]], names: list[str]
    ) -> list[list[Result]]:
        """One search over waves of at most 30 s; halves the batch when memory runs out."""
        for wave in waves:
            log.info("speech length: " + str(len(wave)))
        try:
            nbest = self._search(waves, prompts, names)
        except Exception as error:
            if not is_out_of_memory_error(error):
                error.add_note(f"while decoding the utterances {', '.join(names)}")
                raise
            release_accelerator_memory()
            if len(waves) == 1:
                raise too_large(names[0], waves[0], self.device) from error
        else:
            return [
                self._results(hypotheses, prompt, name)
                for hypotheses, prompt, name in zip(nbest, prompts, names, strict=True)
            ]
        # two halves
        log.warning("out of memory with %d utterances; trying again in two halves", len(waves))
        for name in names:
            log.info(f"best hypo: (out of memory, {name} is decoded again)")
        half = len(waves) // 2
        return self._decode_pieces(
            waves[:half], prompts[:half], names[:half]
        ) + self._decode_pieces(waves[half:], prompts[half:], names[half:])

    def _search(
        self, waves: list[Tensor], prompts: list[list[int]], names: list[str]
    ) -> list[list[Hypothesis]]:
        lengths = torch.tensor([len(wave) for wave in waves])
        speech = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
        speech = speech.to(device=self.device, dtype=getattr(torch, self.dtype))
        memory, memory_lengths = self.asr_model.encode(speech, lengths.to(self.device))
        check_finite(memory, names)
        ratios = {"maxlenratio": self.maxlenratio, "minlenratio": self.minlenratio}
        try:
            if type(self.beam_search) is asr_inference.BatchBeamSearch:
                self.beam_search.set_hyp_primer(prompts)
                return self.beam_search(x=memory, x_lengths=memory_lengths, **ratios)
            found = []
            for row, prompt in enumerate(prompts):
                self.beam_search.set_hyp_primer(prompt)
                alone = memory[row, : int(memory_lengths[row])]
                found.append(self.beam_search(x=alone, **ratios))
            return found
        finally:
            self.beam_search.set_hyp_primer(None)
            self.asr_model.decoder.release_cache()

    def _results(self, found: list[Hypothesis], prompt: list[int], name: str) -> list[Result]:
        if not found:
            log.warning(NO_HYPOTHESIS, name)
            log.info(f"best hypo: ({name})")
            yseq = torch.tensor([*prompt, self.vocabulary.eot])
            found = [Hypothesis(yseq=yseq, score=0.0)]
        results = []
        for hypothesis in found[: self.nbest]:
            if not math.isfinite(float(hypothesis.score)):
                raise ValueError(
                    f"utterance {name}: score {float(hypothesis.score)}; check the checkpoint, and "
                    "use --dtype float32"
                )
            ids = [int(i) for i in hypothesis.yseq[len(prompt) :]]
            if self.vocabulary.eot in ids:
                ids = ids[: ids.index(self.vocabulary.eot)]
            results.append(
                (self.vocabulary.line(ids), self.vocabulary.tokens(ids), ids, hypothesis)
            )
        return results


def _joined(parts: list[list[Result]]) -> list[Result]:
    """Return the n-best lists of an utterance's pieces as one list, best with best."""
    if len(parts) == 1:
        return parts[0]
    results = []
    for row in zip(*parts, strict=False):  # as many as the piece with the fewest has
        hypothesis = Hypothesis(
            yseq=torch.cat([r[3].yseq for r in row]), score=sum(float(r[3].score) for r in row)
        )
        text = joined([r[0] for r in row])
        tokens, ids = [t for r in row for t in r[1]], [i for r in row for i in r[2]]
        results.append((text, tokens, ids, hypothesis))
    return results


def inference(**options: Any) -> None:
    """ESPnet's `inference`, then a check that every utterance asked for has its line.

    Raises:
        ValueError: an utterance without a line in `1best_recog/text`, or a line too many; another
            run that writes to the same folder.
    """
    key_file = options.get("key_file")
    if key_file is not None:
        keys = listed_keys(key_file)
    with only_run(Path(options["output_dir"])):
        base_inference(**options)
    text = Path(options["output_dir"]) / "1best_recog" / "text"
    if key_file is None or not text.is_file():
        return
    written = [line.split(maxsplit=1)[0] for line in text.read_text(encoding="utf-8").splitlines()]
    if sorted(written) != sorted(keys):
        missing = sorted(set(keys) - set(written))
        raise ValueError(
            f"{text}: {len(written)} lines for {len(keys)} utterances of {key_file}; "
            f"missing: {' '.join(missing[:10]) or 'none'}"
        )
