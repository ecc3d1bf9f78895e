"""The prompt-free loss against ESPnet's own label smoothing, on a real ESPnet model."""

import pytest
import torch
from espnet2.asr.ctc import CTC
from espnet2.asr.decoder.transformer_decoder import TransformerDecoder
from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.legacy.nets.pytorch_backend.transformer.label_smoothing_loss import LabelSmoothingLoss

import espnet_blora
from espnet_blora.adapters.sampling import SAMPLERS
from espnet_blora.plugin.model import BloraASRModel, smoothed_cross_entropy
from espnet_blora.plugin.whisper_parts import WhisperDecoder, WhisperEncoder
from espnet_blora.whisper import decoder as whisper_decoder
from espnet_blora.whisper.vocabulary import Vocabulary

# A Whisper-like list: text, then end, start, two languages, transcribe, notimestamps, one time.
WHISPER_TOKENS = [
    *"abcdefgh",
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|zh|>",
    "<|transcribe|>",
    "<|notimestamps|>",
    "<|0.00|>",
]
PLAIN_TOKENS = ["<blank>", "<unk>", *"abcdefgh", "<sos/eos>"]
EN, ZH, TRANSCRIBE, NOTIMESTAMPS = 10, 11, 12, 13


def build(cls, tokens, **conf):
    torch.manual_seed(0)
    size = len(tokens)
    encoder = TransformerEncoder(
        8, output_size=8, attention_heads=2, linear_units=8, num_blocks=1, input_layer="linear"
    )
    decoder = TransformerDecoder(size, 8, attention_heads=2, linear_units=8, num_blocks=1)
    ends = {"sym_sos": "<|startoftranscript|>", "sym_eos": "<|endoftext|>"}
    return cls(
        vocab_size=size,
        token_list=tokens,
        frontend=None,
        specaug=None,
        normalize=None,
        preencoder=None,
        encoder=encoder,
        postencoder=None,
        decoder=decoder,
        ctc=CTC(odim=size, encoder_output_size=8),
        joint_network=None,
        ctc_weight=0.0,
        **(ends if tokens is WHISPER_TOKENS else {}),
        **conf,
    ).eval()


def batch(texts):
    torch.manual_seed(1)
    text = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(t) for t in texts], batch_first=True, padding_value=-1
    )
    speech = torch.randn(len(texts), 12, 8)
    lengths = torch.tensor([12] * len(texts))
    return speech, lengths, text, torch.tensor([len(t) for t in texts])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("per_token", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cross_entropy_equals_espnets_label_smoothing(smoothing, per_token, dtype):
    torch.manual_seed(2)
    logits = (3 * torch.randn(3, 7, 19, dtype=dtype)).requires_grad_()
    targets = torch.randint(0, 19, (3, 7))
    targets[1, 4:] = -1
    targets[0, :3] = -1
    theirs = LabelSmoothingLoss(19, -1, smoothing, per_token)(logits, targets)
    counted = targets != -1
    ours = smoothed_cross_entropy(logits[counted], targets[counted], smoothing)
    ours = ours / (counted.sum() if per_token else 3)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)
    assert theirs.abs() > 0.01


def test_half_precision_logits_are_counted_in_float32():
    torch.manual_seed(3)
    logits = torch.randn(10, 300)
    targets = torch.randint(0, 300, (10,))
    full = smoothed_cross_entropy(logits.bfloat16().float(), targets, 0.1)
    half = smoothed_cross_entropy(logits.bfloat16(), targets, 0.1)
    assert half.dtype == torch.float32 and torch.equal(half, full)


def test_the_prompt_is_masked_in_the_target_and_read_by_the_decoder():
    model = build(BloraASRModel, WHISPER_TOKENS, length_normalized_loss=True, lsm_weight=0.1)
    texts = [[EN, TRANSCRIBE, NOTIMESTAMPS, 1, 2, 3], [ZH, TRANSCRIBE, NOTIMESTAMPS, 4]]
    speech, lengths, text, text_lengths = batch(texts)
    loss, stats, weight = model(speech, lengths, text, text_lengths)

    # By hand: the decoder reads sot + prompt + text; targets are text and end only.
    encoded, encoded_lengths = model.encode(speech, lengths)
    ys_in = torch.tensor([[9, *texts[0]], [9, *texts[1], 8, 8]])
    logits, _ = model.decoder(encoded, encoded_lengths, ys_in, torch.tensor([7, 5]))
    wanted = torch.tensor([[-1, -1, -1, 1, 2, 3, 8], [-1, -1, -1, 4, 8, -1, -1]])
    by_hand = LabelSmoothingLoss(len(WHISPER_TOKENS), -1, 0.1, True)(logits, wanted)
    torch.testing.assert_close(loss, by_hand[None], rtol=1e-5, atol=1e-6)
    hits = (logits.argmax(-1) == wanted)[wanted != -1]
    assert stats["acc"].item() == pytest.approx(hits.float().mean().item())
    assert weight.item() == 2

    # The prompt is an input: another language changes the loss.
    other = text.clone()
    other[0, 0] = ZH
    assert model(speech, lengths, other, text_lengths)[0] != loss


def whisper_model(checkpoint, **conf):
    """A model of Whisper's own halves, of width 32; `conf` is of both of them."""
    layout = Vocabulary.of(51865)
    tokens = layout.token_list()
    return BloraASRModel(
        vocab_size=layout.size,
        token_list=tokens,
        frontend=None,
        specaug=None,
        normalize=None,
        preencoder=None,
        encoder=WhisperEncoder(whisper_model=checkpoint, pad_to="batch", **conf),
        postencoder=None,
        decoder=WhisperDecoder(layout.size, 32, checkpoint, **conf),
        ctc=CTC(odim=2, encoder_output_size=8),
        joint_network=None,
        ctc_weight=0.0,
        lsm_weight=0.1,
        length_normalized_loss=True,
        sym_sos="<|startoftranscript|>",
        sym_eos="<|endoftext|>",
    )


@pytest.mark.parametrize("training", [True, False])
def test_the_vocabulary_is_multiplied_with_text_positions_only(
    short_whisper, monkeypatch, training
):
    """Same loss, accuracy and gradients as with the logits of prompt and padding."""
    layout = Vocabulary.of(51865)
    texts = [[*layout.prompt("en")[1:], 11, 12, 13], [*layout.prompt("zh")[1:], 14]]
    text = batch(texts)[2]
    inputs = (0.1 * torch.randn(2, 9000), torch.tensor([9000, 5000]), text, torch.tensor([6, 4]))
    model = whisper_model(short_whisper).train(training)

    # By hand: logits of all 2 x 7 positions, six of which are targets.
    memory, lengths = model.encode(*inputs[:2])
    ys_in = torch.tensor([[layout.sot, *texts[0]], [layout.sot, *texts[1], *[layout.eot] * 2]])
    logits, _ = model.decoder(memory, lengths, ys_in, torch.tensor([7, 5]))
    wanted = torch.tensor(
        [[-1] * 3 + [11, 12, 13, layout.eot], [-1] * 3 + [14, layout.eot, -1, -1]]
    )
    by_hand = LabelSmoothingLoss(layout.size, -1, 0.1, True)(logits, wanted)
    weights = list(model.decoder.parameters())
    expected = torch.autograd.grad(by_hand, weights)
    hits = (logits.argmax(-1) == wanted)[wanted != -1]

    sizes = []
    real = whisper_decoder.logits_of
    monkeypatch.setattr(
        whisper_decoder,
        "logits_of",
        lambda d, states: sizes.append(states.shape) or real(d, states),
    )
    loss, stats, _ = model(*inputs)
    assert sizes == [(6, 32)]
    torch.testing.assert_close(loss, by_hand[None], rtol=1e-6, atol=1e-6)
    assert stats["acc"].item() == pytest.approx(hits.float().mean().item())
    for found, true in zip(torch.autograd.grad(loss, weights), expected, strict=True):
        torch.testing.assert_close(found, true, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("sampling", SAMPLERS)
def test_checkpointed_blocks_give_the_same_gradients_and_keep_less(short_whisper, sampling):
    """Bit for bit, dropout and the noise of two steps included; a block keeps its inputs alone."""
    layout = Vocabulary.of(51865)
    text = batch([[*layout.prompt("en")[1:], 11, 12, 13], [*layout.prompt("zh")[1:], 14]])[2]
    wave = 0.1 * torch.randn(2, 32000, generator=torch.Generator().manual_seed(0))
    inputs = (wave, torch.tensor([32000, 25000]), text, torch.tensor([6, 4]))
    runs = []
    for checkpointed in (False, True):
        model = whisper_model(short_whisper, activation_checkpointing=checkpointed).train()
        torch.manual_seed(4)
        adapter = espnet_blora.add_adapter(
            model,
            "blora",
            rank=4,
            sampling=sampling,
            dropout_rate=0.1,
            target_modules=["query", "key", "value", "out", "mlp.0", "mlp.2"],
        )
        for layer in adapter.layers.values():
            torch.nn.init.normal_(layer.lora_B, std=0.1)
        kept = {}

        def keep(tensor, kept=kept):
            kept[tensor.data_ptr()] = tensor.nbytes
            return tensor

        torch.manual_seed(5)
        for _ in range(2):
            kept.clear()  # addresses of the first pass are free again
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = model(*inputs)[0]
            loss.sum().backward()
        gradients = [parameter.grad for parameter in adapter.trainable_parameters()]
        weights = {parameter.data_ptr() for parameter in model.parameters()}
        runs.append((loss, gradients, sum(kept[key] for key in kept.keys() - weights)))
    (plain, expected, much), (loss, found, little) = runs
    assert torch.equal(loss, plain)
    assert all(torch.equal(mine, true) for mine, true in zip(found, expected, strict=True))
    assert little < 0.5 * much
    with torch.no_grad():  # validation is as it was
        assert torch.isfinite(model.eval()(*inputs)[0])


def test_without_a_prompt_nothing_is_masked():
    ours = build(BloraASRModel, WHISPER_TOKENS, length_normalized_loss=True, lsm_weight=0.1)
    theirs = build(ESPnetASRModel, WHISPER_TOKENS, length_normalized_loss=True, lsm_weight=0.1)
    inputs = batch([[1, 2, 3], [4, EN, 5, 6]])  # a special id inside the text is no prompt
    assert ours.prompt_lengths(inputs[2]).tolist() == [0, 0]
    torch.testing.assert_close(ours(*inputs)[0], theirs(*inputs)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("conf", [{}, {"length_normalized_loss": True, "lsm_weight": 0.2}])
def test_other_espnet_models_behave_as_before(conf):
    ours = build(BloraASRModel, PLAIN_TOKENS, **conf)
    theirs = build(ESPnetASRModel, PLAIN_TOKENS, **conf)
    assert ours.prompt_range is None
    inputs = batch([[2, 3, 4], [5, 6]])
    first, second = ours(*inputs), theirs(*inputs)
    assert torch.equal(first[0], second[0])
    assert {k: v for k, v in first[1].items() if v is not None} == {
        k: v for k, v in second[1].items() if v is not None
    }


def test_validation_cer_leaves_the_prompt_out():
    model = build(BloraASRModel, WHISPER_TOKENS, sym_space="<space>", sym_blank="<blank>")
    inputs = batch([[EN, TRANSCRIBE, NOTIMESTAMPS, 1, 2], [ZH, TRANSCRIBE, NOTIMESTAMPS, 4, 5]])
    seen = []
    real = model.error_calculator
    model.error_calculator = lambda hat, true: seen.append((hat, true)) or real(hat, true)
    stats = model(*inputs)[1]
    (guesses, truths), _ = seen[0], None
    assert [[i for i in row if i != -1] for row in truths.tolist()] == [[1, 2], [4, 5]]
    assert guesses.shape == truths.shape
    assert stats["cer"].item() >= 0
    assert model(*batch([[EN, TRANSCRIBE, NOTIMESTAMPS]]))[1]["cer"] is None


def test_the_id_of_a_new_language_is_prompt_too():
    tokens = [*WHISPER_TOKENS[:-1], "<|30.00|>", "<|rw|>", "<|kab|>"]
    model = BloraASRModel.__new__(BloraASRModel)
    torch.nn.Module.__init__(model)
    model.set_prompt(tokens)
    rw, kab = len(tokens) - 2, len(tokens) - 1
    texts = [[rw, TRANSCRIBE, NOTIMESTAMPS, 3, 4], [kab, TRANSCRIBE, NOTIMESTAMPS], [ZH, 3, rw]]
    assert model.prompt_lengths(batch(texts)[2]).tolist() == [3, 3, 1]
