"""ESPnet's ASR model with a loss over the text tokens only, not over Whisper's prompt."""

import math
from collections.abc import Sequence

import torch
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.legacy.nets.pytorch_backend.transformer.add_sos_eos import add_sos_eos

from espnet_blora.adapters import get_adapter
from espnet_blora.plugin import retain
from espnet_blora.plugin.whisper_parts import WhisperDecoder

SOT = "<|startoftranscript|>"
LAST_OF_PROMPT = "<|notimestamps|>"
LAST_PUBLISHED = "<|30.00|>"


def smoothed_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """Return ESPnet's label-smoothing loss, summed, by torch's fused cross entropy.

    KL(q || p) with q = 1 - s on the target and s / (V - 1) on each other token. As cross entropy
    smooths with e / V on *every* token, e = s V / (V - 1) gives the same q; what is left is the
    constant entropy of q.

    Args:
        logits: (N, V).
        targets: (N,).
        smoothing: The share s in [0, 1) of other tokens.

    Returns:
        The sum over N in nats, shape ().
    """
    size = logits.size(-1)
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    total = torch.nn.functional.cross_entropy(
        logits, targets, label_smoothing=smoothing * size / (size - 1), reduction="sum"
    )
    # The entropy of q: nothing to learn, but part of the figure that ESPnet reports.
    if smoothing > 0:
        entropy = (1 - smoothing) * math.log(1 - smoothing)
        entropy += smoothing * math.log(smoothing / (size - 1))
        total = total + entropy * len(targets)
    return total


class BloraASRModel(ESPnetASRModel):
    """ESPnetASRModel whose attention loss and accuracy leave Whisper's prompt out.

    The ids of an utterance are [language, transcribe, notimestamps, text ...]. The decoder reads
    all of them; loss, accuracy and CER count from the first text token on. The prompt is the
    leading run of ids between `<|startoftranscript|>` and `<|notimestamps|>`, and of new
    languages' ids; a token list without these (any other ESPnet model) leaves everything as ESPnet
    has it. The decoder's logits are those of the published tokens, which all targets are.
    """

    def __init__(self, vocab_size: int, token_list, *args, narrow_base: bool = False, **kwargs):
        """Take ESPnet's arguments.

        Args:
            vocab_size: Length of the token list.
            token_list: The tokens.
            args: ESPnet's.
            narrow_base: Hold the frozen Linear weights in bfloat16 while training under autocast to
                it: the same bits in less memory.
            kwargs: ESPnet's, which are `model_conf`.
        """
        super().__init__(vocab_size, token_list, *args, **kwargs)
        self.narrow_base = narrow_base
        self.set_prompt(token_list)
        self.retained: tuple[str, float] | None = None  # kind and weight of old audio's term

    def set_prompt(self, token_list: Sequence[str]) -> None:
        """Find which ids a prompt is made of."""
        places = {token: index for index, token in enumerate(token_list)}
        self.prompt_range: tuple[int, int] | None = None
        if SOT in places and LAST_OF_PROMPT in places:
            self.prompt_range = (places[SOT] + 1, places[LAST_OF_PROMPT])
        self.first_new = places.get(LAST_PUBLISHED, len(token_list)) + 1

    def forward(self, *args, **kwargs):
        """Return (loss, stats, weight) as ESPnetASRModel does, with a loss that is only a loss.

        ESPnet's trainer divides the loss by accum_grad in place, and there stats["loss"] is a view
        of it: the training loss it reports is too small by that factor, unlike the validation's.
        """
        old = retain.split(kwargs)
        loss, stats, weight = super().forward(*args, **kwargs)
        loss = loss.clone()
        if old and self.retained is not None:
            kind, factor = self.retained
            term = self.old_term(kind, **old)
            loss = loss + factor * term.to(loss.dtype)
            stats = {**stats, f"retain_{kind}": retain.as_stat(term)}
        return loss, stats, weight

    def old_term(
        self,
        kind: str,
        speech: torch.Tensor,
        speech_lengths: torch.Tensor,
        text: torch.Tensor,
        text_lengths: torch.Tensor,
    ) -> torch.Tensor:
        """Return the term of `retain:` for a batch of old audio, 0-dim; shapes as in `forward`."""
        text = text[:, : int(text_lengths.max())]

        def logits() -> tuple[torch.Tensor, torch.Tensor]:
            memory, lengths = self.encode(speech, speech_lengths)
            found, targets, _, _ = self._text_logits(memory, lengths, text, text_lengths)
            return found, targets

        said, targets = logits()  # (N, V), (N,)
        if kind == "replay":
            loss = smoothed_cross_entropy(said, targets, self.criterion_att.smoothing)
            return loss / len(targets)
        adapter = get_adapter(self)
        assert adapter is not None  # Retain.of has seen to it
        with torch.no_grad(), adapter.disabled():
            base, _ = logits()
        return retain.distillation(said, base)

    def prompt_lengths(self, ys_pad: torch.Tensor) -> torch.Tensor:
        """Count the leading prompt ids of each row: (B, L) -> (B,)."""
        if self.prompt_range is None:
            return torch.zeros(ys_pad.size(0), dtype=torch.long, device=ys_pad.device)
        first, last = self.prompt_range
        inside = ((ys_pad >= first) & (ys_pad <= last)) | (ys_pad >= self.first_new)
        return inside.long().cumprod(dim=1).sum(dim=1)

    def _calc_att_loss(
        self,
        encoder_out: torch.Tensor,
        encoder_out_lens: torch.Tensor,
        ys_pad: torch.Tensor,
        ys_pad_lens: torch.Tensor,
    ):
        """Return (loss, accuracy, CER, WER) over text tokens; see ESPnetASRModel for the shapes."""
        if self.prompt_range is None or self.lang_token_id is not None:
            return super()._calc_att_loss(encoder_out, encoder_out_lens, ys_pad, ys_pad_lens)
        logits, targets, counted, lengths = self._text_logits(
            encoder_out, encoder_out_lens, ys_pad, ys_pad_lens
        )
        loss = smoothed_cross_entropy(logits, targets, self.criterion_att.smoothing)
        loss = loss / (len(targets) if self.criterion_att.normalize_length else len(ys_pad))
        with torch.no_grad():
            best = logits.argmax(dim=-1)  # (N,)
            accuracy = float((best == targets).float().mean())
        cer, wer = None, None
        if not self.training and self.error_calculator is not None:
            guesses = torch.full_like(counted, self.eos, dtype=best.dtype)  # (B, L)
            guesses = guesses.masked_scatter(counted, best)
            cer, wer = self._text_errors(guesses, ys_pad, lengths)
        return loss, accuracy, cer, wer

    def _text_logits(
        self,
        encoder_out: torch.Tensor,
        encoder_out_lens: torch.Tensor,
        ys_pad: torch.Tensor,
        ys_pad_lens: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return logits (N, V), targets (N,), where they are (B, L), lengths of prompts (B,)."""
        ys_in, ys_out = add_sos_eos(ys_pad, self.sos, self.eos, self.ignore_id)
        lengths = self.prompt_lengths(ys_pad)  # (B,)
        position = torch.arange(ys_out.size(1), device=ys_out.device)
        # Masked in the output only: add_sos_eos drops ignored ids from the decoder's input too.
        counted = (ys_out != self.ignore_id) & (position >= lengths[:, None])  # (B, L), N of them
        if isinstance(self.decoder, WhisperDecoder):
            logits = self.decoder.logits_at(encoder_out, encoder_out_lens, ys_in, counted)
        else:
            logits, _ = self.decoder(encoder_out, encoder_out_lens, ys_in, ys_pad_lens + 1)
            logits = logits[counted]  # (N, V)
        return logits, ys_out[counted], counted, lengths

    def _text_errors(self, best: torch.Tensor, ys_pad: torch.Tensor, lengths: torch.Tensor):
        """Let ESPnet count errors of the teacher-forced guess, prompt left out on both sides."""
        # Each row without its prompt, the truth without padding.
        rows = [
            (guess[skip:], truth[skip:][truth[skip:] != self.ignore_id])
            for guess, truth, skip in zip(best, ys_pad, lengths.tolist(), strict=True)
        ]
        width = max(len(truth) for _, truth in rows) + 1
        if width == 1:
            return None, None  # only empty texts in this batch: no rate to report
        # Padded again to one width.
        truths = ys_pad.new_full((len(rows), width), self.ignore_id)
        guesses = ys_pad.new_full((len(rows), width), self.eos)
        for index, (guess, truth) in enumerate(rows):
            truths[index, : len(truth)] = truth
            guesses[index, : min(width, len(guess))] = guess[:width]
        return self.error_calculator(guesses.cpu(), truths.cpu())
