"""Flipped bits in every region of every kind of file: which are refused, which pass unnoticed.

One bit at a time is flipped in a copy of a small file, which is then read as the package reads it.
A flip is *refused* by one clear error, *harmless* if what is read is the same, *silent* if it is
another, *unclear* if the reader raises something else than its own error.

    python3 benchmarks/damage.py                       # 300 flips of each region: a minute
    python3 benchmarks/damage.py --flips 0             # every bit of every file: hours
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import re
import struct
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from whisper.model import ModelDimensions, Whisper

import espnet_blora
from espnet_blora.adapters.files import read_adapter_file
from espnet_blora.adapters.fisher import Fisher, read_fisher, save_fisher
from espnet_blora.adapters.moments import new_sums, read_moments
from espnet_blora.data import audio
from espnet_blora.plugin.data_checks import check_utterances, naming_reader
from espnet_blora.plugin.packing import check_packed
from espnet_blora.whisper.checkpoint import load_whisper, save_whisper
from espnet_blora.whisper.safe_torch_load import checked_loader

OUTCOMES = ("refused", "harmless", "silent", "unclear")
Regions = dict[str, list[range]]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        write: Writes one.
        read: What the package takes from it; values that `same` compares.
        regions: Its bytes by what they are.
    """

    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    regions: Callable[[bytes], Regions]


def small_whisper() -> Whisper:
    torch.manual_seed(0)
    model = Whisper(ModelDimensions(80, 20, 16, 2, 1, 90, 12, 16, 2, 1))
    torch.nn.init.normal_(model.decoder.positional_embedding)
    return model.eval()


# ---- what is written ----


def write_adapter(path: Path) -> None:
    adapter = espnet_blora.add_adapter(small_whisper(), "blora", rank=4, target_modules=["query"])
    adapter.save(path)


def fisher_weights() -> dict[str, torch.Tensor]:
    return {n: p for n, p in small_whisper().named_parameters() if n.endswith("query.weight")}


def write_fisher(path: Path) -> None:
    weights = fisher_weights()
    values = {name: weight.detach() ** 2 for name, weight in weights.items()}
    save_fisher(path, Fisher(values, 5, 60), weights, {"sets": ["test"]})


def read_fisher_file(path: Path) -> dict[str, torch.Tensor]:
    weights = fisher_weights()
    return read_fisher(path, weights, weights)


LAYERS = {"decoder.blocks.0.attn.query": "in", "decoder.blocks.0.attn.key": "in"}


def write_moments(path: Path) -> None:
    sums = new_sums(dict(small_whisper().named_parameters()), LAYERS, {"pad_to": "30s"})
    inputs = torch.randn(40, 16)
    sums.add("in", inputs.T @ inputs, len(inputs))
    sums.heard["utt"] = 1.5
    sums.export(path, {})


def read_moments_file(path: Path) -> dict[str, Any]:
    moments = read_moments(path, dict(small_whisper().named_parameters()), LAYERS, "30s")
    found = {layer: moments.matrix(layer) for layer in LAYERS}
    return {**found, "positions": moments.positions, "seconds": moments.seconds}


def write_openai(path: Path) -> None:
    model = small_whisper()
    torch.save({"dims": asdict(model.dims), "model_state_dict": model.state_dict()}, path)


def read_base(path: Path) -> dict[str, Any]:
    model = load_whisper(path, start=False)
    return {"dims": asdict(model.dims), **model.state_dict()}


def write_epoch(path: Path) -> None:
    model = small_whisper()
    espnet_blora.add_adapter(model, "blora", rank=4, target_modules=["query"])
    torch.save({k: v for k, v in model.state_dict().items() if "weight" not in k}, path)


def write_packed(path: Path) -> None:
    """Pack as stage 14 does."""
    from espnet2.main_funcs.pack_funcs import pack

    source = Path(tempfile.mkdtemp(dir=path.parent))
    write_epoch(source / "2epoch.pth")
    (source / "config.yaml").write_text(yaml.safe_dump({"encoder_conf": {"pad_to": "batch"}}))
    (source / "RESULTS.md").write_text("# RESULTS\n")
    files = {"asr_model_file": source / "2epoch.pth"}
    pack(files, {"asr_train_config": source / "config.yaml"}, path, [source / "RESULTS.md"])


def read_packed(path: Path) -> dict[str, bytes]:
    """Unpack as `Speech2Text.from_pretrained` does; what lies there then, by name."""
    from espnet2.main_funcs.pack_funcs import unpack

    check_packed(path)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        top = Path(folder)
        found = {key: Path(file).read_bytes() for key, file in unpack(path, top).items()}
        files = {str(f.relative_to(top)): f.read_bytes() for f in top.rglob("*") if f.is_file()}
        return found | files


def write_flac(path: Path) -> None:
    import soundfile

    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(8000), 16000)


def write_ark(path: Path) -> None:
    """Write an archive of three utterances, its list and their texts, as stage 3 does."""
    from omniio import kaldi

    kind = "wav" if path.name.startswith("wav.ark") else "flac"
    noise = np.random.default_rng(0).integers(-3000, 3000, (3, 4000), dtype=np.int16)
    ark = path.with_name("flac.ark") if path.suffix == ".scp" else path
    kaldi.save_ark(
        str(ark), {f"utt{n}": (wave, 16000) for n, wave in enumerate(noise)},
        scp=str(path.with_name("wav.scp")), write_function="soundfile",
        write_kwargs={"format": kind, "subtype": "PCM_16"},
    )  # fmt: skip
    path.with_name("text").write_text("".join(f"utt{n} text\n" for n in range(3)))


def read_ark(path: Path) -> dict[str, np.ndarray]:
    """Read all utterances as a training does."""
    from espnet2.train.dataset import kaldi_loader

    scp, text = str(path.with_name("wav.scp")), str(path.with_name("text"))
    check_utterances([(scp, "speech", "kaldi_ark"), (text, "text", "text")])
    reader = naming_reader(kaldi_loader, places="_dict")(scp)
    return {utterance: np.asarray(reader[utterance]) for utterance in reader}


# ---- where its regions are ----


def safetensors_regions(raw: bytes) -> Regions:
    """Header length, descriptions (and checksums in them), tensors' names and places, tensors."""
    (size,) = struct.unpack("<Q", raw[:8])
    text = raw[8 : 8 + size]
    regions: Regions = {"length of the header": [range(8)]}
    taken: set[int] = set()
    for value in json.loads(text)["__metadata__"].values():
        start = 8 + text.index(json.dumps(value, separators=(",", ":")).encode())
        length = len(json.dumps(value))
        regions.setdefault("description", []).append(range(start, start + length))
        taken.update(range(start, start + length))
    rest = [position for position in range(8, 8 + size) if position not in taken]
    regions["names, types, shapes, places"] = [range(p, p + 1) for p in rest]
    regions["tensors"] = [range(8 + size, len(raw))]
    return regions


def zip_regions(raw: bytes) -> Regions:
    """Headers and padding of entries, the pickle, other bytes, the directory, the end record."""
    end = raw.rindex(b"PK\x05\x06")
    with tempfile.TemporaryFile() as file:
        file.write(raw)
        with zipfile.ZipFile(file) as archive:
            entries, directory = archive.infolist(), archive.start_dir
    regions: Regions = {"entries": [], "pickles and texts": [], "entries' headers": []}
    inside: set[int] = set()
    for entry in entries:
        names = struct.unpack("<HH", raw[entry.header_offset + 26 : entry.header_offset + 30])
        start = entry.header_offset + 30 + sum(names)
        text = entry.filename.endswith((".pkl", ".yaml", ".md"))
        place = "pickles and texts" if text else "entries"
        regions[place].append(range(start, start + entry.compress_size))
        inside.update(range(start, start + entry.compress_size))
    between = [position for position in range(directory) if position not in inside]
    regions["entries' headers"] = [range(p, p + 1) for p in between]
    regions["directory"] = [range(directory, end)]
    regions["end record"] = [range(end, len(raw))]
    return regions


def flac_regions(raw: bytes) -> Regions:
    """The first block's length, rate and number of samples, its MD5; other blocks; frames."""
    start, last = 4, False
    while not last:
        last = bool(raw[start] & 0x80)
        start += 4 + int.from_bytes(raw[start + 1 : start + 4], "big")
    return {
        "stream info": [range(26)],
        "MD5": [range(26, 42)],
        "other blocks": [range(42, start)],
        "frames": [range(start, len(raw))],
    }


def ark_regions(raw: bytes) -> Regions:
    """Ids, Kaldi's heads of entries, and what the audio is made of."""
    regions: Regions = {"ids": [], "heads": []}
    ids = [match.span() for match in re.finditer(rb"utt\d (?=AUDIO)", raw)]
    for (start, end), (after, _) in zip(ids, [*ids[1:], (len(raw), 0)], strict=True):
        audio_at = end + re.search(b"fLaC|RIFF", raw[end:after]).start()
        regions["ids"].append(range(start, end))
        regions["heads"].append(range(end, audio_at))
        wav = {"WAV header": [range(44)], "WAV samples": [range(44, after - audio_at)]}
        flac = raw[audio_at : audio_at + 4] == b"fLaC"
        inside = flac_regions(raw[audio_at:after]) if flac else wav
        for name, places in inside.items():
            moved = [range(audio_at + p.start, audio_at + p.stop) for p in places]
            regions.setdefault(name, []).extend(moved)
    return regions


def scp_regions(raw: bytes) -> Regions:
    """Ids, paths, offsets, and blanks and line breaks."""
    regions: Regions = {}
    for match in re.finditer(rb"(?m)^(\S+)( )(\S+)(:\d+)(\n)", raw):
        for number, name in enumerate(("ids", "between", "paths", "offsets", "between"), 1):
            regions.setdefault(name, []).append(range(*match.span(number)))
    return regions


load_epoch = checked_loader(partial(torch.load, weights_only=True))
KINDS = {
    "adapter.safetensors": Kind(write_adapter, read_adapter_file, safetensors_regions),
    "fisher.safetensors": Kind(write_fisher, read_fisher_file, safetensors_regions),
    "moments.safetensors": Kind(write_moments, read_moments_file, safetensors_regions),
    "base.safetensors": Kind(
        lambda path: save_whisper(small_whisper(), path), read_base, safetensors_regions
    ),
    "base.pt": Kind(write_openai, read_base, zip_regions),
    "2epoch.pth": Kind(
        write_epoch, lambda path: dict(load_epoch(path, map_location="cpu")), zip_regions
    ),
    "packed.zip": Kind(write_packed, read_packed, zip_regions),
    "utterance.flac": Kind(write_flac, audio.read, flac_regions),
    "flac.ark": Kind(write_ark, read_ark, ark_regions),
    "wav.ark": Kind(write_ark, read_ark, ark_regions),
    "wav.scp": Kind(write_ark, read_ark, scp_regions),
}


# ---- what happens ----


def same(one: Any, other: Any) -> bool:
    """Whether two things read are the same, to the last bit."""
    if isinstance(one, espnet_blora.adapters.files.AdapterFile):
        used = ("method", "config", "step", "layers", "base")
        described = all(one.description[key] == other.description[key] for key in used)
        return described and same(one.tensors, other.tensors)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other))
    return one == other


def bits(places: Iterable[range], count: int, seed: int) -> Iterable[int]:
    """Return `count` bits of a region, drawn without repetition; all of them for 0."""
    whole = [8 * byte + bit for place in places for byte in place for bit in range(8)]
    return whole if not 0 < count < len(whole) else random.Random(seed).sample(whole, count)


def outcome(kind: Kind, path: Path, sound: Any) -> str:
    """Return what reading `path` comes to, beside what a sound file gives."""
    try:
        found = kind.read(path)
    except ValueError:
        return "refused"
    except Exception:  # any other error is an outcome, too: the user is not told what to do
        return "unclear"
    return "harmless" if same(sound, found) else "silent"


def battery(name: str, folder: Path, flips: int, seed: int = 0) -> dict[str, Counter]:
    """Flip bits in every region of one kind of file; count outcomes by region."""
    kind = KINDS[name]
    path = folder / name
    kind.write(path)
    raw, sound = path.read_bytes(), kind.read(path)
    found = {}
    for region, places in kind.regions(raw).items():
        counts = found[region] = Counter()
        for bit in bits(places, flips, seed):
            damaged = bytearray(raw)
            damaged[bit // 8] ^= 1 << (bit % 8)
            path.write_bytes(damaged)
            counts[outcome(kind, path, sound)] += 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flips", type=int, default=300, help="of each region; 0: every bit")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {platform.machine()}; {args.flips or 'all'} bits a region\n")
    print("| file | region | bits | " + " | ".join(OUTCOMES) + " |")
    print("|---|---|---|" + "---|" * len(OUTCOMES))
    for name in args.kinds:
        with tempfile.TemporaryDirectory() as folder:
            for region, counts in battery(name, Path(folder), args.flips).items():
                row = [name, region, counts.total(), *(counts[what] for what in OUTCOMES)]
                print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
