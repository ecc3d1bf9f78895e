"""Datasets of the hub become audio files and tables: their bytes, their splits, what is wrong."""

import io
import json

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from pyarrow import ipc, parquet

from espnet_blora.bin import interchange
from espnet_blora.data import hf_datasets
from espnet_blora.data.corpora import custom
from espnet_blora.data.prepare import prepare
from espnet_blora.data.records import Ledger


def sound(seconds=0.5, form="FLAC", seed=0):
    wave = 0.1 * np.random.default_rng(seed).standard_normal(int(16000 * seconds))
    file = io.BytesIO()
    soundfile.write(
        file, wave, 16000, format=form, **({"subtype": "PCM_16"} if form == "WAV" else {})
    )
    return file.getvalue()


def rows(split, count=3, form="FLAC"):
    return [
        {
            "audio": {"bytes": sound(0.5 + 0.1 * n, form, n), "path": f"clips/{split}-{n}.x"},
            "sentence": f"text {n} of {split}",
            "speaker_id": n % 2,
            "language": "en",
        }
        for n in range(count)
    ]


def write_parquet(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(table), path, row_group_size=2)


def save_to_disk(folder, table):
    """What `Dataset.save_to_disk` lays down: Arrow's stream, and a state that names the files."""
    folder.mkdir(parents=True)
    whole = pa.Table.from_pylist(table)
    names = [f"data-0000{n}-of-00002.arrow" for n in range(2)]
    for name, part in zip(names, (whole.slice(0, 2), whole.slice(2)), strict=True):
        with ipc.new_stream(str(folder / name), whole.schema) as stream:
            stream.write_table(part)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))


def manifest(folder):
    lines = (folder / hf_datasets.MANIFEST).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("layout", ["data/{}-00000-of-00001.parquet", "default/{}/0000.parquet"])
def test_splits_of_parquet_become_the_sets_of_custom(tmp_path, layout):
    source, out = tmp_path / "hub", tmp_path / "out"
    sizes = {"train": 4, "validation": 2, "test": 3}
    for split, count in sizes.items():
        write_parquet(source / layout.format(split), rows(split, count))
    assert hf_datasets.unpack(source, out, Ledger()) == {"test": 3, "train": 4, "valid": 2}
    made = custom.read(custom.find(out), ("train", "valid", "test"), Ledger(), {})
    assert {name: len(some) for name, some in made.items()} == {"train": 4, "valid": 2, "test": 3}
    first = made["train"][0]
    assert (first.text, first.language, first.speaker) == ("text 0 of train", "en", "0")
    assert first.audio.read_bytes() == rows("train", 1)[0]["audio"]["bytes"]


@pytest.mark.parametrize("form", ["FLAC", "WAV", "OGG", "MP3", "AIFF"])
def test_bytes_are_decoded_by_our_reader(tmp_path, form):
    write_parquet(tmp_path / "x.parquet", rows("train", 10, form))
    hf_datasets.unpack(tmp_path / "x.parquet", tmp_path / "out", Ledger())
    (tmp_path / "data").mkdir()
    prepare(custom.CORPUS, tmp_path / "out", ["train"], tmp_path / "data", tmp_path / "clips", {})
    assert len((tmp_path / "data/train/wav.scp").read_text().splitlines()) == 8


def test_what_save_to_disk_wrote(tmp_path):
    save_to_disk(tmp_path / "one", rows("train"))
    assert hf_datasets.unpack(tmp_path / "one", tmp_path / "out", Ledger()) == {"": 3}
    assert [row["text"] for row in manifest(tmp_path / "out")] == [
        f"text {n} of train" for n in range(3)
    ]
    for split in ("train", "validation"):
        save_to_disk(tmp_path / "dict" / split, rows(split))
    (tmp_path / "dict/dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    # what `map` of datasets keeps beside the data is not data
    (tmp_path / "dict/train/cache-0123456789abcdef.arrow").write_bytes(b"of another table")
    counts = hf_datasets.unpack(tmp_path / "dict", tmp_path / "both", Ledger())
    assert counts == {"train": 3, "valid": 3}
    assert len(manifest(tmp_path / "both/valid")) == 3


def test_names_stay_inside_and_apart(tmp_path):
    table = rows("train")
    for row, path in zip(table, ("../../up.wav", "a\\up.wav", None), strict=True):
        row["audio"]["path"] = path
    write_parquet(tmp_path / "x.parquet", table)
    hf_datasets.unpack(tmp_path / "x.parquet", tmp_path / "out", Ledger())
    names = [row["file"] for row in manifest(tmp_path / "out")]
    assert names == ["audio/up.flac", "audio/up_000001.flac", "audio/x_000002.flac"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "x.parquet"]


def test_rows_that_cannot_be_used_are_named(tmp_path, capsys):
    table = rows("train", 4)
    table[1]["audio"]["bytes"] = None
    table[2]["sentence"] = None
    write_parquet(tmp_path / "x.parquet", table)
    words = ["unpack", str(tmp_path / "x.parquet"), str(tmp_path / "out")]
    assert interchange.main(words) == 0
    assert "2 utterances" in capsys.readouterr().out
    listed = (tmp_path / "out/left_out.tsv").read_text().splitlines()
    assert [line.split("\t")[0].rpartition(":")[2] for line in listed] == ["2", "3"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: write_parquet(p, [{"a": 1}]), "audio ({bytes, path})"),
        (lambda p: write_parquet(p, [{"audio": {"bytes": b"x", "path": ""}, "raw": "t"}]), "raw"),
        (lambda p: p.write_bytes(b"PAR1 and no more"), "damaged"),
        (lambda p: p.mkdir(), "dataset_dict.json"),
        (lambda p: None, "x.parquet"),
    ],
)
def test_mistakes_leave_nothing(tmp_path, capsys, make, said):
    make(tmp_path / "x.parquet")
    words = ["unpack", str(tmp_path / "x.parquet"), str(tmp_path / "out")]
    assert interchange.main(words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_column_of_texts_by_name(tmp_path):
    table = [{**row, "raw": "other"} for row in rows("train")]
    write_parquet(tmp_path / "x.parquet", table)
    hf_datasets.unpack(tmp_path / "x.parquet", tmp_path / "out", Ledger(), "raw")
    assert {row["text"] for row in manifest(tmp_path / "out")} == {"other"}


def test_an_audiofolder_is_read_as_it_is(tmp_path):
    for n in range(10):
        (tmp_path / f"{n}.flac").write_bytes(sound(seed=n))
    lines = ["file_name,transcription", *(f"{n}.flac,text {n}" for n in range(10))]
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    made = custom.read(custom.find(tmp_path), ("train",), Ledger(), {"language": "en"})
    assert len(made["train"]) == 8
