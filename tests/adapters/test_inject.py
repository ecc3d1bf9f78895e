import copy
import logging
import subprocess
import sys

import pytest
import torch
from torch import nn
from whisper.model import AudioEncoder, TextDecoder

import espnet_blora
from espnet_blora.adapters import get_adapter


def test_freezes_everything_else_and_logs_nothing(build, method, caplog):
    model = build()
    base = dict(model.named_parameters())
    with caplog.at_level(logging.INFO):
        adapter = espnet_blora.add_adapter(model, method, rank=4)
    assert base and not any(p.requires_grad for p in base.values())
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    factors = {"lora": 2, "blora": 3}[method]
    assert len(trained) == 4 * factors == len(adapter.trainable_parameters())
    assert caplog.text == ""  # only a training has use for the counts


def test_a_second_adapter_is_refused(adapted):
    model, adapter = adapted
    with pytest.raises(ValueError, match=f"already carries an adapter \\('{adapter.method}'"):
        espnet_blora.add_adapter(model, "lora")
    with pytest.raises(ValueError, match="a part of this model already carries"):
        espnet_blora.add_adapter(nn.ModuleDict({"asr": model}), "lora")


def test_get_adapter(adapted, build):
    model, adapter = adapted
    assert get_adapter(model).layers is adapter.layers
    assert get_adapter(build()) is None

    class Wrapper(nn.Module):  # as DistributedDataParallel does
        def __init__(self, module):
            super().__init__()
            self.module = module

    assert get_adapter(Wrapper(model)).layers is adapter.layers


def test_the_adapter_follows_the_dtype_and_mode_of_its_model(build, method):
    model = build().eval()
    adapter = espnet_blora.add_adapter(model, method, rank=4)
    assert not any(layer.training for layer in adapter.layers.values())
    model.half()
    assert model.adapter_state.step.dtype == torch.int64
    assert model.adapter_state.fingerprint.dtype == torch.int64


def test_buffers_stay_out_of_ddp(build):
    model = build()
    model._ddp_params_and_buffers_to_ignore = ["other"]
    espnet_blora.add_adapter(model, "blora", rank=4)
    ignored = set(model._ddp_params_and_buffers_to_ignore)
    buffers = {name for name, _ in model.named_buffers()}
    assert "blocks.0.attn.query.rho_B" in buffers and "adapter_state.step" in buffers
    assert buffers | {"other"} <= ignored
    assert not ignored & {n for n, p in model.named_parameters() if p.requires_grad}
    assert copy.deepcopy(model)._ddp_params_and_buffers_to_ignore == list(
        model._ddp_params_and_buffers_to_ignore
    )


def test_under_ddp(build, tmp_path):
    """One gloo process: the wrapper advances the step, and trains what is trained without it."""
    gradients = []
    for wrapped in (False, True):
        model = build()
        adapter = espnet_blora.add_adapter(model, "blora", rank=4)
        run = model.train()
        if wrapped:
            init = f"file://{tmp_path}/store"
            torch.distributed.init_process_group("gloo", init, rank=0, world_size=1)
            run = nn.parallel.DistributedDataParallel(model)
        try:
            for _ in range(2):
                loss = run(torch.ones(2, 3, 12)).square().sum() + adapter.kl().float()
                loss.backward()
        finally:
            if wrapped:
                torch.distributed.destroy_process_group()
        assert adapter.step == 2
        gradients.append([p.grad for p in adapter.trainable_parameters()])
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True))


def test_large_v3_turbo_on_meta():
    with torch.device("meta"):
        encoder = AudioEncoder(128, 1500, 1280, 20, 32)
        decoder = TextDecoder(51866, 448, 1280, 20, 4)
    for method, expected in (("lora", 6_553_600), ("blora", 9_830_400)):
        with torch.device("meta"):
            model = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
            model = copy.deepcopy(model)
        report = espnet_blora.add_adapter(model, method, rank=32).report()
        assert (report["layers"], report["trainable"]) == (80, expected)
        assert 0.008 < report["share"] < 0.0125


def test_the_package_loads_lazily():
    code = (
        "import sys, espnet_blora; assert 'torch' not in sys.modules; "
        "espnet_blora.add_adapter; assert 'torch' in sys.modules; "
        "assert not {'espnet2', 'whisper'} & set(sys.modules); print(espnet_blora.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == espnet_blora.__version__
    assert {"add_adapter", "load_adapter"} <= set(dir(espnet_blora))
    with pytest.raises(AttributeError, match="no attribute 'add_adaptor'"):
        _ = espnet_blora.add_adaptor
