"""A model opened without ESPnet is, bit for bit, the model that ESPnet opens."""

import pytest
import torch
import yaml
from espnet2.tasks.asr import ASRTask

from espnet_blora.adapters import get_adapter
from espnet_blora.decoding import recogniser
from espnet_blora.decoding.training_config import find_checkpoint
from espnet_blora.plugin.base_model import write_base_model
from espnet_blora.plugin.settings import NEW_LANGUAGES
from espnet_blora.whisper import decoder as text_decoder
from espnet_blora.whisper.checkpoint import load_whisper
from espnet_blora.whisper.encoder import encode
from espnet_blora.whisper.vocabulary import Vocabulary
from tests import experiments
from tests.plugin.tiny import config, whisper_file

NEW = ("kab", "rw")
LAYOUT = Vocabulary.of(51865, NEW)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The experiment of an unadapted base that knows two languages more, as ESPnet dumps it."""
    folder = tmp_path_factory.mktemp("opening")
    (folder / "train.yaml").write_text(yaml.safe_dump(config()), encoding="utf-8")
    tokens = "".join(f"{token}\n" for token in LAYOUT.token_list())
    (folder / "tokens.txt").write_text(tokens, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(NEW_LANGUAGES, "")
        write_base_model(
            str(folder / "train.yaml"), str(folder / "tokens.txt"), str(folder / "none"),
            str(whisper_file(folder)),
        )  # fmt: skip
    return folder / "none"


@torch.no_grad()
@pytest.mark.parametrize("method", ["none", "full", "lora", "blora", "dora"])
def test_the_same_logits_bit_for_bit(base, tmp_path, method):
    folder = base
    if method != "none":
        whisper, adapter = str(whisper_file(tmp_path)), None if method == "full" else method
        folder, _ = experiments.experiment(tmp_path / "exp", whisper, adapter, NEW)
        experiments.complete(folder)
    checkpoint = find_checkpoint(folder)
    theirs, args = ASRTask.build_model_from_file(folder / "config.yaml", checkpoint)
    theirs.eval()
    waves = 0.1 * torch.randn(2, 6000)
    lengths = torch.tensor([6000, 4000])
    ids = torch.tensor([[*LAYOUT.prompt("rw"), 11], [*LAYOUT.prompt("zh"), 400]])
    for merge in (False, True):
        ours = recogniser.open_experiment(folder, merge=merge, packed=False)
        assert ours.vocabulary is LAYOUT
        memory, frames = encode(ours.encoder, waves, lengths, ours.pad_to)
        found = text_decoder.forward(ours.decoder, ids, memory, frames)
        if merge and get_adapter(theirs) is not None:
            get_adapter(theirs).merge()
        memory, frames = theirs.encode(waves, lengths)
        wanted, _ = theirs.decoder(memory, frames, ids, torch.tensor([5, 5]))
        assert torch.equal(found, wanted)
    published = load_whisper(args.decoder_conf["whisper_model"])
    heads = published.alignment_heads.to_dense().nonzero().tolist()
    assert ours.alignment_heads == [(layer, head) for layer, head in heads] and heads
