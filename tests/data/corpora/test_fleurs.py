"""FLEURS: shared sentence ids, odd blanks, recordings that break off, packed audio."""

import io
import tarfile

import pytest

from espnet_blora.data.corpora import fleurs
from espnet_blora.data.records import Ledger
from tests.data.layouts import fleurs as layout
from tests.data.layouts import speech


def read(path, names=("test",), **options):
    ledger = Ledger()
    return fleurs.read(fleurs.find(path), list(names), ledger, options), ledger


def test_sentence_ids_are_shared_and_truncated_recordings_kept_in_test_alone(tmp_path):
    layout.make(tmp_path, 3)
    sets, ledger = read(tmp_path, layout.SETS)
    test = [u for u in sets["test"] if u.audio.is_file()]
    assert len({u.id.rpartition("-")[2] for u in test}) < len(test)
    assert len({u.speaker for u in test}) == len(test)
    assert ledger.counts() == {"listed twice": 3, "truncated recording": 1}
    assert ledger.note_counts() == {"truncated recording": 2}
    assert "0.50 s for" in ledger.notes[0].detail
    kept, ledger = read(tmp_path, layout.SETS, truncated="keep")
    assert len(kept["train"]) == len(sets["train"]) + 1
    assert ledger.note_counts() == {"truncated recording": 3}
    less, ledger = read(tmp_path, layout.SETS, truncated="skip")
    assert len(less["test"]) == len(sets["test"]) - 1
    assert ledger.counts()["truncated recording"] == 3


def test_short_texts_in_short_recordings_are_no_fault(tmp_path):
    laid = layout.make(tmp_path, 1, lang="cmn_hans_cn")
    folder = laid.root / "data/cmn_hans_cn"
    speech.write(folder / "audio/test/1.wav", speech.tone(0.6, 300))
    speech.write(folder / "audio/test/2.wav", speech.tone(0.6, 300))
    lines = [
        "1\t1.wav\t你好。\t你好\t你 好 |\t9600\tMALE",
        "2\t2.wav\t我们在学习中文\t我\t|\t9600\tMALE",
    ]
    (folder / "test.tsv").write_text("\n".join(lines), encoding="utf-8")
    sets, ledger = read(tmp_path, truncated="skip")
    assert [u.text for u in sets["test"]] == ["你好。"]
    assert [e.id for e in ledger.skips] == ["2-2"]  # a Han character counts as a word does


def test_odd_blanks_and_joiners(tmp_path):
    laid = layout.make(tmp_path, 4, lang="fa_ir")
    sets, _ = read(tmp_path)
    texts = [u.text for u in sets["test"] if u.audio.is_file()]
    assert texts == list(laid.texts["test"].values())
    assert any("\u200c" in text for text in texts)
    assert {c for text in texts for c in text if c.isspace()} == {" "}


def test_the_other_transcription(tmp_path):
    layout.make(tmp_path, 2, lang="es_419")
    raw = read(tmp_path)[0]["test"]
    plain = read(tmp_path, text="normalised")[0]["test"]
    assert [u.id for u in plain] == [u.id for u in raw][:2]  # "?" has nothing left
    assert plain[0].text == raw[0].text.lower().replace(".", "")
    assert raw[0].text != plain[0].text


def test_rows_that_cannot_be_trusted(tmp_path):
    layout.make(tmp_path, 1)
    table = next(tmp_path.rglob("test.tsv"))
    table.write_text("1\ta.wav\tHola\thola\th o l a\t16000\n", encoding="utf-8")
    with pytest.raises(ValueError, match="test.tsv:1: 6 .*7"):
        read(tmp_path)


def test_packed_audio_is_unpacked_once_beside_or_elsewhere(tmp_path):
    laid = layout.make(tmp_path / "copy", 2, packed=True)
    folder = laid.root / "data/es_419/audio"
    items = fleurs.CORPUS.inspect(fleurs.find(laid.root), {"lang": "es_419"})
    assert "test.tar.gz: still packed" in {i.what: i for i in items}["test"].found
    assert not (folder / "test").exists()  # to inspect unpacks nothing
    away = tmp_path / "elsewhere"
    sets, _ = read(laid.root, unpack=str(away))
    assert sets["test"][0].audio.parent == away / "es_419" / "test"
    assert not (folder / "test").exists()
    sets, _ = read(laid.root)
    assert {u.id for u in sets["test"] if u.audio.is_file()} == set(laid.texts["test"])
    assert sets["test"][0].audio.parent == folder / "test"
    (folder / "test.tar.gz").unlink()
    assert read(laid.root)[0] == sets
    assert not list(tmp_path.rglob("*.part"))


def test_an_archive_cannot_write_elsewhere(tmp_path):
    laid = layout.make(tmp_path / "copy", 1, packed=True)
    archive = laid.root / "data/es_419/audio/test.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        for name in ("../../../../../evil.wav", f"{tmp_path}/abs.wav", "test/run.sh", "test/1.wav"):
            member = tarfile.TarInfo(name)
            member.size = 3
            packed.addfile(member, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("test/link.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(link)
    read(laid.root)
    there = sorted(p.name for p in (archive.parent / "test").iterdir())
    assert there == ["1.wav", "abs.wav", "evil.wav"]
    assert [p for p in tmp_path.rglob("*.wav") if p.parent.name not in layout.SETS] == []


def test_a_damaged_archive_leaves_nothing_behind(tmp_path):
    laid = layout.make(tmp_path, 2, packed=True)
    archive = laid.root / "data/es_419/audio/test.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"test.tar.gz: "):
        read(tmp_path)
    archive.write_bytes(b"<html>404</html>")
    with pytest.raises(ValueError, match=r"test.tar.gz: "):
        read(tmp_path)
    assert sorted(p.name for p in archive.parent.iterdir()) == [
        f"{name}.tar.gz" for name in sorted(layout.SETS)
    ]
    archive.unlink()
    with pytest.raises(FileNotFoundError, match="audio/test: .*test.tar"):
        read(tmp_path)


def test_languages(tmp_path):
    layout.make(tmp_path, 1, lang="es_419")
    layout.make(tmp_path, 1, lang="cmn_hans_cn")
    with pytest.raises(ValueError, match="option lang=.*: cmn_hans_cn, es_419"):
        read(tmp_path)
    sets, _ = read(tmp_path, lang="cmn_hans_cn")
    assert {u.language for u in sets["test"]} == {"zh"}
    top = fleurs.find(tmp_path)
    (top / "cmn_hans_cn").rename(top / "ckb_iq")
    with pytest.raises(ValueError, match="'ckb_iq'.*language=CODE"):
        read(tmp_path, lang="ckb_iq")
    assert fleurs.find(top / "es_419") == top


def test_hours_and_longest_recordings(tmp_path):
    laid = layout.make(tmp_path, 1)
    folder = laid.root / "data/es_419"
    for name in ("train", "test"):
        lines = []
        for number in range(6):
            seconds = 9.5 if number == 5 else 1.5
            speech.write(folder / "audio" / name / f"{number}.wav", speech.tone(seconds, 300))
            lines.append(f"{number}\t{number}.wav\tHola\thola\th o l a |\t1\tMALE\n")
        (folder / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")
    hours = {"hours": str(4 / 3600), "test_hours": str(2 / 3600), "max_seconds": "9"}
    sets, ledger = read(tmp_path, ("train", "test"), **hours)
    drawn = {name: [u.audio.stem for u in found] for name, found in sets.items()}
    # 1.5 + 1.5 s are not yet more than 4 s, the third exceeds them; in the order of SHA-256
    assert len(drawn["train"]) == 3 and drawn["test"] == drawn["train"][:2]
    assert "5" not in drawn["train"]
    assert ledger.counts() == {"longer than 9 s": 2}
    assert ledger.note_counts() == {"a part was drawn": 2}
    assert "3 of 5 utterances were drawn" in ledger.notes[0].detail
    whole, ledger = read(tmp_path, ("train",), hours="1")
    assert [u.audio.stem for u in whole["train"]] == list("012345") and not ledger.notes
    with pytest.raises(ValueError, match="option hours='nan'"):
        read(tmp_path, hours="nan")
