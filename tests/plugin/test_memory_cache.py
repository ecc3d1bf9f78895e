"""Memories of a frozen encoder: the same bits with them and without, or a reason."""

import errno
from argparse import Namespace

import pytest
import torch

from espnet_blora.plugin import memory_cache, resume, whisper_parts
from espnet_blora.plugin.memory_cache import FOLDER, MemoryCache
from espnet_blora.plugin.whisper_parts import WhisperEncoder
from espnet_blora.utils import atomic
from espnet_blora.whisper import decoder as whisper_decoder
from tests.plugin.tiny import BLORA, TRAIN, VALID, Experiment, data_dir

DAMA = {
    "use_adapter": True,
    "adapter": "dama",
    "adapter_conf": {"r_high": 4, "r_low": 2, "dropout_rate": 0.3},
    "save_strategy": "required_grad_only",
}
KEPT = {"pad_to": "batch", "memory_cache": True}
IN_FILES = {**KEPT, "memory_cache_ram": 0.0}
SPECAUG = {
    **KEPT,
    "use_specaug": True,
    "specaug_conf": {"apply_time_warp": False, "time_mask_width_range": [0, 5]},
}
BATCHES = TRAIN // 2 + 1


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return Experiment(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def encoded(monkeypatch):
    """Count the batches that an encoder encodes."""
    real, calls = whisper_parts.encode_features, []

    def spy(*args):
        calls.append(args[1].shape)
        return real(*args)

    monkeypatch.setattr(whisper_parts, "encode_features", spy)
    return calls


def figures(folder):
    """Losses, accuracies and weights of all epochs; no times."""
    checkpoint = torch.load(folder / "checkpoint.pth")
    stats = checkpoint["reporter"]["stats"]
    for epoch in stats.values():
        for part in epoch.values():
            for name in [n for n in part if "time" in n or n == "gpu_max_cached_mem_GB"]:
                del part[name]
    return stats, checkpoint["model"], checkpoint["optimizers"]


def assert_same(one, two):
    (stats, model, optimizers), (others, other_model, other_optimizers) = figures(one), figures(two)
    assert stats == others and len(stats[1]["train"]) >= 4
    assert model.keys() == other_model.keys()
    assert all(torch.equal(value, other_model[name]) for name, value in model.items())
    states = (o[0]["state"] for o in (optimizers, other_optimizers))
    for mine, theirs in zip(*(s.values() for s in states), strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture(scope="module")
def plain(experiment):
    return experiment.train_here("plain", **DAMA, max_epoch=3)


def test_losses_accuracies_and_weights_are_the_same_and_one_epoch_is_encoded(
    experiment, plain, encoded
):
    for name, conf, share in (("ram", KEPT, 0), ("files", IN_FILES, 1)):
        encoded.clear()
        folder = experiment.train_here(name, **DAMA, max_epoch=3, encoder_conf=conf)
        assert len(encoded) == BATCHES
        assert_same(folder, plain)
        files = list((experiment.folder / FOLDER).rglob("*.float32"))
        assert len(files) == share * (TRAIN + VALID)


def test_another_adapter_and_a_resume_find_the_files(experiment, plain, encoded):
    experiment.train_here("first", **DAMA, encoder_conf=IN_FILES, max_epoch=1)
    encoded.clear()
    folder = experiment.train_here("first", **DAMA, encoder_conf=IN_FILES, max_epoch=3)
    assert not encoded
    assert_same(folder, plain)
    dama = {**DAMA, "adapter": "blora_dama"}
    experiment.train_here("second", **dama, encoder_conf=IN_FILES, max_epoch=1)
    assert not encoded


def test_the_cache_may_be_switched_on_by_a_resume(experiment, plain):
    experiment.train_here("switched", **DAMA, max_epoch=1)
    folder = experiment.train_here("switched", **DAMA, max_epoch=3, encoder_conf=KEPT)
    assert_same(folder, plain)
    assert resume.differences({"encoder_conf": KEPT}, {"encoder_conf": {"pad_to": "30s"}})


def test_a_full_disk_costs_time_only(experiment, plain, encoded, monkeypatch, caplog):
    real, room = atomic.write, [None] * 3

    def write(path, content, **options):
        if "float32" in str(path):
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            room.pop()
        real(path, content, **options)

    monkeypatch.setattr(memory_cache, "FOLDER", "full")
    monkeypatch.setattr(memory_cache.atomic, "write", write)
    folder = experiment.train_here("full", **DAMA, max_epoch=3, encoder_conf=IN_FILES)
    assert_same(folder, plain)
    assert len(list((experiment.folder / "full").rglob("*.float32"))) == 3
    assert len(encoded) == 3 * BATCHES - 2  # one batch is whole there, in two epochs
    assert sum("No space left" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoder_conf": SPECAUG}, "use_specaug"),
        (BLORA, r"encoders\.blocks\.0\.attn\.query\.lora_A"),
        ({"use_adapter": False}, "parameters are trained"),
        ({"noise_scp": "noises.scp"}, "noise_scp"),
        ({"rir_scp": "rooms.scp"}, "rir_scp"),
        ({"preprocessor_conf": {"data_aug_effects": [[1.0, "gain"]]}}, "data_aug_effects"),
        ({"iterator_type": "chunk"}, "iterator_type: chunk"),
        ({"train_shape_file": []}, "lengths of the utterances"),
        ({"encoder_conf": {**IN_FILES, "memory_cache_disk": 1e-6}}, "1e-06 GB of files"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:12],
)  # fmt: skip
def test_what_makes_it_wrong_or_too_large_is_refused_with_its_reason(
    experiment, changes, reason, caplog
):
    """`true` stops the training before it has begun; `auto` says why and goes without."""
    from espnet2.tasks import abs_task
    from espnet2.tasks.asr import ASRTask

    from espnet_blora.plugin import register

    shapes = changes.pop("train_shape_file", None)
    args = ASRTask.get_parser().parse_args(
        experiment.arguments("refused", **{**DAMA, "encoder_conf": KEPT, **changes})
    )
    args.train_shape_file = args.train_shape_file if shapes is None else shapes
    register(whisper=str(experiment.whisper))
    model = ASRTask.build_model(args)
    if args.use_adapter:
        abs_task.create_adapter(model, args.adapter, args.adapter_conf)
    with pytest.raises(ValueError, match=rf"memory_cache: true.*{reason}.*memory_cache: false"):
        memory_cache.attach(args, model.encoder)
    model.encoder.memory_cache = "auto"
    with caplog.at_level("INFO"):
        memory_cache.attach(args, model.encoder)
    assert model.encoder.cache is None and "memory_cache: auto: none" in caplog.text


def test_an_unknown_value_is_refused(random_whisper):
    with pytest.raises(ValueError, match="memory_cache is 'on demand'; allowed: true, false, auto"):
        WhisperEncoder(whisper_model=random_whisper, memory_cache="on demand")


def test_the_size_is_said_first(experiment, caplog):
    """11 noises in Whisper's window: 1500 positions of 16 numbers each."""
    folder = data_dir(experiment.folder / "sized", 5, 9)
    encoder = Namespace(
        memory_cache=True, memory_cache_ram=4e-4, memory_cache_disk=1.0, pad_to="30s", specaug=None,
        named_parameters=list, output_size=lambda: 16,
    )  # fmt: skip
    args = Namespace(
        collect_stats=False, preprocessor_conf={}, iterator_type="sequence", use_amp=True, ngpu=0,
        train_shape_file=[f"{folder}/speech_shape"], valid_shape_file=[f"{folder}/speech_shape"],
        output_dir=str(folder / "exp"),
    )  # fmt: skip
    with caplog.at_level("INFO"):
        memory_cache.attach(args, encoder)
    assert isinstance(encoder.cache, MemoryCache) and encoder.cache.folder == folder / FOLDER
    size = 10 * 1500 * 16 * 4
    assert f"10 utterances have memories of {size / 1e9:.2f} GB" in caplog.text
    assert f"{(size - 4e5) / 1e9:.2f} GB of it in {folder / FOLDER}" in caplog.text


# ---- the cache itself ----


def encoder_of(whisper, seed=0, **conf):
    encoder = WhisperEncoder(whisper_model=whisper, pad_to="batch", **conf)
    return encoder.requires_grad_(False)


def batch(seed=0):
    torch.manual_seed(seed)
    return torch.randn(2, 8000), torch.tensor([8000, 5000])


def same_memory(one, two):
    """Compare the positions that are heard; what stands behind them is masked."""
    assert torch.equal(one[1], two[1])
    return all(torch.equal(a[:n], b[:n]) for a, b, n in zip(one[0], two[0], one[1], strict=True))


def test_files_that_are_damaged_or_cut_short_are_made_anew(random_whisper, tmp_path, encoded):
    encoder = encoder_of(random_whisper)
    encoder.cache = MemoryCache(encoder, 0.0, tmp_path)
    first, lengths, _ = encoder(*batch())
    files = sorted(p for p in tmp_path.rglob("*.float32"))
    whole = [path.read_bytes() for path in files]
    for spoil in (
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: bytes(len(data)),
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
    ):
        files[1].write_bytes(spoil(whole[1]))
        encoded.clear()
        again, others, _ = encoder(*batch())
        assert len(encoded) == 1 and torch.equal(first, again) and torch.equal(lengths, others)
        assert [path.read_bytes() for path in files] == whole
    encoded.clear()
    encoder(*batch())
    assert not encoded


def test_a_memory_is_of_its_samples_its_base_and_its_window(random_whisper, tmp_path, encoded):
    """Equal ids say nothing: other audio, another base or another window is encoded."""
    encoder = encoder_of(random_whisper)
    encoder.cache = MemoryCache(encoder, 0.0, tmp_path)
    encoder(*batch())
    other = encoder_of(random_whisper)
    with torch.no_grad():
        other.encoders.blocks[1].mlp[2].bias[3] += 1e-6
    window = WhisperEncoder(whisper_model=random_whisper, pad_to="30s").requires_grad_(False)
    for changed in (other, window):
        changed.cache = MemoryCache(changed, 0.0, tmp_path)
        encoded.clear()
        kept = changed(*batch())
        assert len(encoded) == 1 and same_memory(kept, changed.encode(*batch()))
    waves, lengths = batch()
    for speech in (waves * 0.9, torch.cat([waves[:1], -waves[1:]])):  # stage 2's copies, new audio
        encoded.clear()
        encoder(speech, lengths)
        assert len(encoded) == 1


def test_two_processes_share_one_folder(random_whisper, tmp_path, encoded):
    """What one rank has written the other one reads; both at once write the same bytes."""
    one, two = encoder_of(random_whisper), encoder_of(random_whisper)
    for encoder in (one, two):
        encoder.cache = MemoryCache(encoder, 0.0, tmp_path)
    memory = one(*batch())[0]
    encoded.clear()
    assert torch.equal(two(*batch())[0], memory) and not encoded


@pytest.mark.parametrize("in_files", [False, True])
def test_under_autocast_it_has_the_precision_of_the_products(random_whisper, tmp_path, in_files):
    """Half the size; what the decoder makes of it is the same, bit for bit."""
    encoder = encoder_of(random_whisper)
    parts = whisper_parts.parts_for_decoder(random_whisper)
    tokens = torch.tensor([[50258, 50259, 50359, 5], [50258, 50260, 50359, 7]])

    def logits():
        with torch.autocast("cpu", torch.bfloat16):
            memory, lengths, _ = encoder(*batch())
            return memory, whisper_decoder.forward(parts.decoder, tokens, memory, lengths)

    memory, wanted = logits()
    ram = 0.0 if in_files else 1e6
    encoder.cache = MemoryCache(encoder, ram, tmp_path if in_files else None)
    for _ in range(2):
        kept, found = logits()
        assert kept.dtype == memory.dtype == torch.float32
        assert torch.equal(found, wanted)
    stored = encoder.cache.kept.values()
    assert all(row.dtype == torch.bfloat16 for row in stored) and len(stored) == 2 * (not in_files)
    assert len(list(tmp_path.rglob("*.bfloat16"))) == 2 * in_files
    assert same_memory(encoder(*batch()), encoder.encode(*batch()))  # fp32 is another entry
