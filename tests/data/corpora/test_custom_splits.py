"""Own data that is split already: three Kaldi directories in a folder."""

import pytest

from espnet_blora.data.corpora import custom
from espnet_blora.data.records import Ledger
from tests.data.layouts import custom as layouts


def split(root, names=("train", "dev", "test"), utterances=4):
    """Lay out one Kaldi directory a set; they differ in who speaks what."""
    for seed, name in enumerate(names):
        made = layouts.make(root / name, utterances=utterances, form="kaldi", seed=seed)
        for file in ("text", "utt2spk", "utt2lang", "wav.scp"):
            path = made.root / file
            lines = (f"{name[0]}{line}" for line in path.read_text("utf-8").splitlines(True))
            path.write_text("".join(lines), encoding="utf-8")
    return root


def read(root, **options):
    ledger = Ledger()
    sets = ["train", "valid", "test"]
    return custom.CORPUS.read(custom.CORPUS.find(root), sets, ledger, options), ledger


def test_each_folder_is_a_set(tmp_path):
    found, ledger = read(split(tmp_path))
    assert [len(found[name]) for name in ("train", "valid", "test")] == [4, 4, 4]
    assert all("/dev/" in u.where for u in found["valid"])
    # the speakers are the same five: that is said
    assert ledger.note_counts()["speakers of train are in another set too"] == 2
    items = {item.what: item.found for item in custom.CORPUS.inspect(tmp_path, {})}
    assert items["form"] == "folders train, valid, test"
    assert items["valid: utterances"] == "4"


def test_an_utterance_in_two_sets_is_refused(tmp_path):
    for name in ("train", "valid", "test"):
        layouts.make(tmp_path / name, utterances=2, form="kaldi")
    with pytest.raises(ValueError, match=r"valid/text:\d+: .* train "):
        read(tmp_path)


def test_two_folders_for_one_set(tmp_path):
    split(tmp_path, ("train", "dev", "test"))
    (tmp_path / "dev").rename(tmp_path / "valid")
    split(tmp_path, ("dev",))
    with pytest.raises(ValueError, match="valid and dev"):
        custom.find(tmp_path)


def test_a_table_of_another_name_is_pointed_at(tmp_path):
    layouts.tones(tmp_path, 2)
    layouts.table(tmp_path, ["clips/a0.wav,hello", "clips/a1.wav,world"], "meta.csv")
    with pytest.raises(FileNotFoundError, match=r"meta\.csv"):
        custom.find(tmp_path)
    assert custom.find(tmp_path / "meta.csv")
