"""Fisher Spanish: sets, ids, the published split, places on disk."""

import random
import shutil

import pytest

from espnet_blora.data.corpora import fisher as corpus
from espnet_blora.data.corpora import fisher_split
from espnet_blora.data.records import Ledger
from tests.data.layouts import fisher


@pytest.fixture
def layout(tmp_path):
    return fisher.make(tmp_path, 20, sound="tone")


def read(layout, *names, **options):
    ledger = Ledger()
    names = names or tuple(corpus.SETS)
    return corpus.read(corpus.find(layout.root), names, ledger, options), ledger


def found(records):
    return {name: {u.id: u.text for u in records[name]} for name in records}


def test_utterances_are_joined_on_their_own_side(layout):
    records, _ = read(layout, "train")
    by_id = {u.id: u for u in records["train"]}
    assert len(by_id) == len(layout.texts["train"]) > 30
    for id, u in by_id.items():
        stem, channel, start, end = layout.times[id]
        assert (u.audio.name, u.channel) == (f"{stem}.sph", channel)
        assert (u.start, u.end) == (start, end)
    joined = next(u for u in records["train"] if u.text == "sí, okay pero no mañana")
    # two tones of 0.6 s with 0.3 s between them, in which the other side talks
    assert joined.end - joined.start == pytest.approx(1.5)
    assert joined.channel == 1


def test_an_utterance_has_one_id_in_all_sets_and_stable_speakers(layout):
    records, _ = read(layout)
    assert found(records) == layout.texts
    train = {u.id: u for u in records["train"]}
    for name in ("cs_train", "cs_valid", "mono_train"):
        assert all(train[u.id] == u for u in records[name])
    speakers = {u.audio.stem.split("_")[2]: set() for u in train.values()}
    for u in train.values():
        speakers[u.audio.stem.split("_")[2]].add(u.speaker)
    # one person called twice; the other side of the second call has no PIN
    assert speakers == {"901": {"10001", "10002"}, "902": {"10001", "20990101_010203_902_fsp_B"}}
    assert records["train"][0].id == "10001-fisher_train-utt000001"


def test_mono_and_switched_sets_share_all_between_them(layout):
    records, _ = read(layout)
    ids = {name: {u.id for u in records[name]} for name in records}
    assert ids["cs_train"] | ids["cs_valid"] | ids["mono_train"] == ids["train"]
    assert ids["cs_eval"] | ids["mono_eval"] == ids["dev"] | ids["dev2"] | ids["test"]
    assert ids["mono_train_lid"] < ids["mono_train"]
    assert not ids["cs_train"] & ids["cs_valid"]
    assert len(ids["cs_valid"]) == 2


def test_evaluation_sets_alone_need_no_train(layout):
    (layout.mapping / "fisher_train").write_text("no mapping at all\n")
    records, _ = read(layout, "cs_eval", "mono_eval", "dev")
    assert found(records) == {name: layout.texts[name] for name in records}


def test_published_split_is_the_computed_one(layout):
    records, ledger = read(layout, cs_mapping=str(layout.published))
    assert found(records) == layout.texts
    assert not [e for e in ledger.notes if "published" in e.reason]


def test_published_split_decides_and_differences_are_noted(layout):
    text = layout.published.read_text()
    rows = text.splitlines()
    for index, row in enumerate(rows):
        if row.endswith("cs") and ",train," in row:
            rows[index] = row.replace(",train,", ",dev,")  # one more for validation
            break
    flipped = next(
        i for i, row in enumerate(rows) if row.endswith("mono") and "fisher_train" in row
    )
    rows[flipped] = rows[flipped].removesuffix("mono") + "cs"
    layout.published.write_text("\n".join(rows) + "\n")
    records, ledger = read(layout, "cs_train", "cs_valid", cs_mapping=str(layout.published))
    assert len(records["cs_valid"]) == len(layout.texts["cs_valid"]) + 1
    assert len(records["cs_train"]) == len(layout.texts["cs_train"])
    notes = ledger.note_counts()
    assert notes["published kind differs from the tags"] == 1
    assert notes["published validation set, used here, is not the drawn one"] == 1


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (",cs\n", ",code\n", r"split 'test', cs_type 'code'"),
        (",fisher_dev,0,", ",fisher_dev,99,", r"no such line"),
        (",fisher_dev,1,", ",fisher_dev,0,", r"but the mapping file has"),
        (",fisher_dev,0,", ",fisher_eval,0,", r"file 'fisher_eval'"),
        ("0,fisher_dev,0,test,", "0,fisher_dev,0,dev,", r"split 'dev'"),
    ],
)
def test_published_table_that_does_not_fit_is_refused(layout, old, new, says):
    text = layout.published.read_text()
    assert old in text
    layout.published.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"mapping\.csv:\d+: .*{says}"):
        read(layout, cs_mapping=str(layout.published))


def test_published_table_that_is_cut_off_is_refused(layout):
    rows = layout.published.read_text().splitlines()
    layout.published.write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(ValueError, match="fisher_train"):
        read(layout, cs_mapping=str(layout.published))


def test_split_is_not_drawn_from_a_part_of_the_transcripts(layout):
    folder = layout.root / "LDC2010T04/fisher_spa_tr/data/transcripts"
    (folder / "20990104_000000_905_fsp.tdf").unlink()
    with pytest.raises(ValueError, match=r"1 calls .*905.*cs_mapping=fisher_mapping\.csv"):
        read(layout, "cs_train")
    records, ledger = read(layout, "cs_train", cs_mapping=str(layout.published))
    assert found(records) == {"cs_train": layout.texts["cs_train"]}
    assert "split not compared with the computed one: transcripts missing" in ledger.note_counts()
    records, ledger = read(layout, "test", "dev")
    assert found(records) == {"test": {}, "dev": layout.texts["dev"]}
    assert ledger.counts()["no transcript"] > 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("20990102_000000_903_fsp 999", r"fisher_dev:\d+: data line 999 of .* is not there"),
        ("20990102_000000_903_fsp 4", r"fisher_dev:\d+: data line 4 of .* is blank"),
        ("20990102_000000_903_fsp 1-2", r"fisher_dev:\d+: .*expected '<call> <n>'"),
        ("20990102_000000_903_fsp 0", r"fisher_dev:\d+: .*expected '<call> <n>'"),
        ("20990102_000000_903_fsp 1 2", r"fisher_dev:\d+: .*expected '<call> <n>'"),
        ("20990102_000000_903_fsp ١", r"fisher_dev:\d+: .*expected '<call> <n>'"),
    ],
)
def test_malformed_mapping_is_refused_with_its_line(layout, line, says):
    path = layout.mapping / "fisher_dev"
    path.write_text(path.read_text() + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        read(layout, "dev")


def test_mapping_files_are_looked_for_and_may_be_given(layout, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.move(layout.mapping.parent, elsewhere)
    with pytest.raises(FileNotFoundError, match="mapping_dir="):
        read(layout, "dev")
    for given in (elsewhere, elsewhere / "mapping"):
        assert found(read(layout, "dev", mapping_dir=str(given))[0])["dev"] == layout.texts["dev"]
    items = corpus.inspect(corpus.find(layout.root), {})
    assert items[-1].ok is False
    assert "mapping_dir" in items[-1].found


def test_discs_need_not_be_merged_nor_the_folder_named(tmp_path):
    layout = fisher.make(tmp_path, 4, sound="tone", discs=True)
    whole = layout.root / "LDC2010T04"
    for name in ("data", "doc"):
        shutil.move(whole / "fisher_spa_tr" / name, whole / name)
    (whole / "fisher_spa_tr").rmdir()
    records, _ = read(layout, "train", "dev")
    assert found(records) == {name: layout.texts[name] for name in ("train", "dev")}
    assert {u.audio.parent.parts[-3] for u in records["train"]} == {"DISC1", "DISC2"}
    assert corpus.find(whole) == layout.root.resolve()
    shutil.rmtree(layout.root / "LDC2010S01")
    with pytest.raises(FileNotFoundError, match="LDC2010S01/DISC1/data/speech"):
        corpus.find(layout.root)


def test_odd_lines_of_the_call_table_are_noted(layout):
    table = layout.root / "LDC2010T04/fisher_spa_tr/doc/fsp_call.tbl"
    table.write_text(table.read_text() + "\nx901,a,b\n903,1\n")
    records, ledger = read(layout, "dev")
    assert ledger.note_counts()["line of the call table not understood"] == 2
    assert "10777" in {u.speaker for u in records["dev"]}
    table.unlink()
    records, _ = read(layout, "dev")
    assert {u.speaker for u in records["dev"]} == {
        "20990102_000000_903_fsp_A",
        "20990102_000000_903_fsp_B",
    }


def test_draw_is_that_of_pythons_shared_generator():
    """The published script's own calls: seed once, a number for each tie, two samples."""
    for switched, mono, before, after in (
        (8220, 13059, 0, 0),
        (8220, 13059, 17, 230),
        (7, 3, 1, 1),
    ):
        random.seed(1)
        for _ in range(before):
            random.random()
        validation = random.sample(list(range(switched)), k=int(0.1 * switched))
        for _ in range(after):
            random.random()
        rest = switched - len(validation)
        sample = random.sample(list(range(mono)), min(mono, rest))
        drawn = fisher_split.draw(switched, mono, before, after)
        assert drawn == (sorted(validation), sorted(sample))
    assert len(fisher_split.draw(8220, 130599, 0, 0).validation) == 822
    assert len(fisher_split.draw(8220, 130599, 0, 0).mono_sample) == 7398


def test_inspection_counts_lines_before_anything_is_left_out(layout):
    items = {i.what: i for i in corpus.inspect(corpus.find(layout.root), {})}
    assert items["calls with both"].found == "5"
    assert int(items["train lines"].found) == len(layout.texts["train"]) + 3
    assert items["cs_valid lines"].found == "2"
    assert items["cs_valid lines"].ok is None
    assert items["dev lines"].ok is False
