"""ESPnet's preprocessor for Whisper: the language of an utterance becomes its prompt."""

from __future__ import annotations

import numpy as np
from espnet2.text.cleaner import TextCleaner
from espnet2.train.preprocessor import CommonPreprocessor
from whisper.audio import N_FFT, N_SAMPLES, SAMPLE_RATE

from espnet_blora.plugin.data_checks import Languages
from espnet_blora.plugin.vocabulary import (
    MODEL_TYPE,
    WhisperTokenizer,
    check_supported,
    vocabulary_of,
)
from espnet_blora.whisper.vocabulary import Vocabulary

PROMPT = "whisper_prompt"
UTTERANCE = "utterance"
DEFAULT_N_TEXT_CTX = 448


def pack_name(utterance: str) -> np.ndarray:
    """Return an utterance id as integers, the only way through ESPnet's loader and collater.

    >>> unpack_name(pack_name("spk1-utt2"))
    'spk1-utt2'
    """
    return np.frombuffer(utterance.encode("utf-8"), dtype=np.uint8).astype(np.int64)


def unpack_name(packed) -> str:
    """Return the id of `pack_name`; negative numbers are the collater's padding."""
    return bytes(int(i) for i in packed if int(i) >= 0).decode("utf-8")


class WhisperPreprocessor(CommonPreprocessor):
    """ESPnet's preprocessor; for `token_type: whisper_multilingual` with a language per utterance.

    Text becomes [language, transcribe, no timestamps] + text tokens: ESPnet's model puts the start
    token before and end-of-text behind. For decoding (`decoding`) there is no text; the prompt and
    the id then travel with the speech. Any other token type is left to ESPnet.
    """

    def __init__(self, train: bool, **options):
        whisper = options.get("token_type") == MODEL_TYPE
        super().__init__(train, **(options | {"token_type": None} if whisper else options))
        self.vocabulary: Vocabulary | None = None
        self.whisper_language = options.get("whisper_language")
        self.languages = Languages()
        self.decoding = False
        self.n_text_ctx = DEFAULT_N_TEXT_CTX
        if whisper:
            added = options.get("non_linguistic_symbols")
            check_supported(MODEL_TYPE, options.get("whisper_task"), added)
            self.vocabulary = vocabulary_of(options["token_list"])
            self.text_cleaner = TextCleaner(options.get("text_cleaner"))
            self.tokenizer = self.token_id_converter = WhisperTokenizer(vocabulary=self.vocabulary)

    def bind(
        self, languages: Languages, decoding: bool, n_text_ctx: int = DEFAULT_N_TEXT_CTX
    ) -> None:
        """Tell it the languages of its data, and whether prompts go along for decoding."""
        self.languages, self.decoding, self.n_text_ctx = languages, decoding, n_text_ctx

    def __call__(self, uid: str, data: dict) -> dict[str, np.ndarray]:
        """Process one utterance.

        Raises:
            ValueError: No language, audio that is not mono, finite and (in training) of 25 ms to
                30 s, or a text longer than Whisper's positions; each names the utterance.
        """
        if self.vocabulary is None:
            return super().__call__(uid, data)
        if "prompt" in data:
            raise ValueError(
                f"utterance {uid!r} has a 'prompt': ESPnet's prompts are not supported, the "
                "language comes from utt2lang"
            )
        # Audio.
        data = self._speech_process(data)
        if self.speech_name in data:
            self._check_speech(uid, data[self.speech_name])

        # Text behind the prompt; the start token is the model's business.
        prompt = self.vocabulary.prompt(self.languages[uid])
        if isinstance(data.get(self.text_name), str):
            text = self.text_cleaner(data[self.text_name])
            ids = [*prompt[1:], *self.vocabulary.encode(text)]
            if len(ids) + 1 > self.n_text_ctx:
                raise ValueError(
                    f"utterance {uid!r}: {len(ids) + 1} tokens with the prompt, Whisper has "
                    f"{self.n_text_ctx} positions: cut the utterance or remove it from the data"
                )
            data[self.text_name] = np.array(ids, dtype=np.int64)

        # For the search.
        if self.decoding:
            data[PROMPT] = np.array(prompt, dtype=np.int64)
            data[UTTERANCE] = pack_name(uid)
        return data

    def _check_speech(self, uid: str, speech: np.ndarray) -> None:
        """Check the audio of one utterance; see `__call__` for the errors."""
        if speech.ndim != 1:
            raise ValueError(
                f"utterance {uid!r}: audio of shape {speech.shape}, Whisper takes one channel; "
                "make it mono (stage 1), or set preprocessor_conf: {force_single_channel: true}"
            )
        if not np.isfinite(speech).all():
            raise ValueError(f"utterance {uid!r}: audio with NaN or infinite samples; replace it")
        if not self.decoding and len(speech) < N_FFT:
            raise ValueError(
                f"utterance {uid!r}: {len(speech)} samples, less than one of Whisper's windows "
                f"({N_FFT}, {1000 * N_FFT / SAMPLE_RATE:g} ms), cannot carry a text: take it out "
                "of wav.scp, text and utt2lang, or filter the training set with "
                "--min_wav_duration 0.1"
            )
        if not self.decoding and len(speech) > N_SAMPLES:
            raise ValueError(
                f"utterance {uid!r}: {len(speech) / SAMPLE_RATE:.2f} s, Whisper takes at most "
                f"{N_SAMPLES // SAMPLE_RATE} s: cut it (segments), or filter the training set with "
                "--max_wav_duration 30"
            )
