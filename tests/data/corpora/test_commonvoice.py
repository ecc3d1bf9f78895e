"""Common Voice: three headers, quotes, releases, languages, CL-MASR's part."""

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.data.corpora import commonvoice, tables
from espnet_blora.data.records import Ledger
from tests.data.layouts import commonvoice as layout
from tests.data.layouts import speech


def read(path, names=("test",), **options):
    ledger = Ledger()
    return commonvoice.read(commonvoice.find(path), list(names), ledger, options), ledger


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    root = tmp_path_factory.mktemp("cv")
    return layout.make(root, 3, locale="es", header=17)


@pytest.mark.parametrize(
    ("locale", "header", "code"),
    [("en", 12, "en"), ("zh-CN", 13, "zh"), ("ar", 17, "ar")],
)
def test_every_header_gives_the_sentence(tmp_path, locale, header, code):
    laid = layout.make(tmp_path, 2, locale=locale, header=header)
    sets, _ = read(tmp_path, layout.SETS)
    for name, texts in laid.texts.items():
        there = {u.id: u for u in sets[name] if u.audio.is_file()}
        assert {id: u.text for id, u in there.items()} == texts
        assert {u.language for u in there.values()} == {code}


def test_columns_in_any_order_and_further_ones(tmp_path):
    folder = tmp_path / "cv-corpus-30" / "es"
    folder.mkdir(parents=True)
    rows = ["new\tsentence\tpath\tclient_id", '?\tla "frase\ta.mp3\tAB', "?\totra\tb.mp3\tAB"]
    (folder / "test.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    utterances = read(tmp_path)[0]["test"]
    assert [(u.id, u.text) for u in utterances] == [("AB-a", 'la "frase'), ("AB-b", "otra")]
    assert utterances[1].where == f"{folder}/test.tsv:3"
    (folder / "test.tsv").write_text("new\tpath\tclient_id\n", encoding="utf-8")
    with pytest.raises(ValueError, match="test.tsv:1: .*sentence.*: new,"):
        read(tmp_path)


def test_a_shifted_row_is_an_error(copy, tmp_path):
    shutil.copytree(copy.root, tmp_path, dirs_exist_ok=True)
    table = next(tmp_path.rglob("test.tsv"))
    lines = table.read_text(encoding="utf-8").splitlines()
    lines[2] = lines[2].replace("\t", "", 1)
    table.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=r"test.tsv:3: 12 .*13 \(client_id, path"):
        read(tmp_path)


def test_find_takes_a_release_its_parent_or_a_locale_but_not_two_releases(copy, tmp_path):
    release = next(copy.root.iterdir())
    assert commonvoice.find(copy.root) == release
    assert commonvoice.find(release) == release
    assert commonvoice.find(release / "es") == release
    for name in ("cv-corpus-13.0-2023-03-09", "cv-corpus-17.0"):
        (tmp_path / name / "es").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="cv-corpus-13.*, cv-corpus-17"):
        commonvoice.find(tmp_path)


def test_locale_is_needed_where_there_are_several(copy, tmp_path):
    shutil.copytree(copy.root, tmp_path, dirs_exist_ok=True)
    release = next(tmp_path.iterdir())
    shutil.copytree(release / "es", release / "rw")
    with pytest.raises(ValueError, match="option locale=.*: es, rw"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError, match="/zh-CN: .*: es, rw"):
        read(tmp_path, locale="zh-CN")
    with pytest.raises(ValueError, match="'rw'.* option language="):
        read(tmp_path, locale="rw")
    sets, _ = read(tmp_path, locale="rw", language="rw")
    assert {u.language for u in sets["test"]} == {"rw"}


def test_train_from_validated_is_what_dev_and_test_leave(copy):
    rest = read(copy.root, ("train",), train="validated")[0]["train"]
    ids = {u.audio.name for u in rest}
    held = read(copy.root, ("dev", "test"))[0]
    assert not ids & {u.audio.name for name in held for u in held[name] if u.audio.is_file()}
    own = {u.audio.name for u in read(copy.root, ("train",))[0]["train"] if u.audio.is_file()}
    assert ids == own | {"common_voice_es_1.mp3"}


def make_rows(folder, count, seconds=1000):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"c{i}\tclip{i}.mp3\tfrase número {i}" for i in range(count)]
    content = "client_id\tpath\tsentence\n" + "\n".join(rows) + "\n"
    for name in ("train", "dev", "test"):
        (folder / f"{name}.tsv").write_text(content, encoding="utf-8")
    told = [f"clip{i}.mp3\t{1000 * seconds}" for i in range(count)]
    content = "clip\tduration[ms]\n" + "\n".join(told) + "\n"
    (folder / "clip_durations.tsv").write_text(content, encoding="utf-8")
    return folder


def names(utterances):
    return [u.audio.stem for u in utterances]


def test_cl_masr_takes_the_listed_rows_until_the_hour_is_over(tmp_path):
    make_rows(tmp_path / "cv-corpus-13/es", 9)
    listed = tmp_path / "random_idxes.txt"
    listed.write_text("7\n1999999\n0\n3\n12\n8\n2\n1\n4\n5\n6\n", encoding="utf-8")
    options = {"subset": "cl_masr", "random_idxes": str(listed)}
    sets, ledger = read(tmp_path, ("dev", "train"), **options)
    # 3,600 s are not yet exceeded after three clips of 1,000 s; the fourth exceeds them
    assert names(sets["dev"]) == ["clip7", "clip0", "clip3", "clip8"]
    assert len(sets["train"]) == 9
    assert not ledger.skips and not ledger.notes
    half = read(tmp_path, ("train", "test"), hours="0.5", **options)[0]
    assert names(half["train"]) == ["clip7", "clip0"]
    assert len(half["test"]) == 4


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("0\nx\n", "idxes.txt:2: 'x'; expected a row number"),
        ("-1\n", "idxes.txt:1: '-1'; expected a row number"),
        ("0\n1\n0\n", "idxes.txt:3: row 0 is in the list already"),
        ("0\n2\n", "ends with 2 rows drawn of the 9 .* 2,000,000 numbers: fetch it again"),
    ],
)
def test_cl_masr_damaged_lists(tmp_path, content, says):
    make_rows(tmp_path / "cv-corpus-13/es", 9)
    listed = tmp_path / "random_idxes.txt"
    listed.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        read(tmp_path, ("test",), subset="cl_masr", random_idxes=str(listed))


def test_cl_masr_without_the_list_says_that_the_rows_are_others(tmp_path, caplog):
    make_rows(tmp_path / "cv-corpus-13/es", 9)
    sets, ledger = read(tmp_path, ("test",), subset="cl_masr")
    assert ledger.note_counts() == {commonvoice.OTHER_ROWS: 1}
    assert "do not compare with the published ones" in caplog.text
    assert names(sets["test"]) == ["clip2", "clip1", "clip7", "clip0"]  # by SHA-256, for ever
    assert read(tmp_path, ("test",), subset="cl_masr")[0] == sets


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf", "ten"])
def test_cl_masr_hours(tmp_path, hours):
    make_rows(tmp_path / "cv-corpus-13/es", 2)
    with pytest.raises(ValueError, match=f"option hours='{hours}'"):
        read(tmp_path, ("train",), subset="cl_masr", hours=hours)


def test_cl_masr_text_and_what_is_dropped_for_it(tmp_path):
    folder = make_rows(tmp_path / "cv-corpus-13/es", 0)
    says = ['l’eau, c\'est "5$"', "',", "x" * 201, "fin"]
    rows = [f"c{i}\tclip{i}.mp3\t{text}" for i, text in enumerate(says)]
    content = "client_id\tpath\tsentence\n" + "\n".join(rows) + "\n"
    (folder / "test.tsv").write_text(content, encoding="utf-8")
    (folder / "clip_durations.tsv").unlink()
    for i in (0, 1, 2):
        speech.write(folder / "clips" / f"clip{i}.mp3", speech.tone(0.5, 300, 32000), 32000)
    listed = tmp_path / "random_idxes.txt"
    listed.write_text("0\n1\n2\n3\n", encoding="utf-8")
    options = {"subset": "cl_masr", "random_idxes": str(listed)}
    sets, ledger = read(tmp_path, **options)
    assert [u.text for u in sets["test"]] == ["l eau c est 5S", "fin"]
    skips = {"empty after cleaning": 1, "longer than 200 characters": 1}
    assert ledger.counts() == skips
    assert ledger.note_counts() == {"unknown duration": 1}
    sets, ledger = read(tmp_path, text="corpus", **options)
    assert [u.text for u in sets["test"]] == [says[0], "fin"]
    assert ledger.counts() == skips


def test_a_malformed_duration_is_an_error(tmp_path):
    folder = make_rows(tmp_path / "cv-corpus-13/es", 2)
    (folder / "clip_durations.tsv").write_text("clip\tduration[ms]\na\t1.5 s\n", encoding="utf-8")
    with pytest.raises(ValueError, match="clip_durations.tsv:2: .*'1.5 s'"):
        read(tmp_path, subset="cl_masr")


@given(
    seconds=st.lists(st.integers(1, 4000), min_size=1, max_size=12),
    order=st.randoms(use_true_random=False),
)
def test_cl_masr_stops_with_the_row_that_exceeds_the_limit(tmp_path_factory, seconds, order):
    folder = tmp_path_factory.mktemp("cl_masr")
    told = [f"{i}.mp3\t{1000 * s}\n" for i, s in enumerate(seconds)]
    (folder / "clip_durations.tsv").write_text("clip\tduration[ms]\n" + "".join(told))
    rows = [tables.Row("w", {"path": f"{i}.mp3", "sentence": "a"}) for i in range(len(seconds))]
    indices = list(range(len(seconds) + 3))
    order.shuffle(indices)
    (folder / "list").write_text("".join(f"{i}\n" for i in indices))
    options = {"random_idxes": str(folder / "list")}
    drawn = commonvoice.draw_cl_masr(rows, "test", folder, options, Ledger())
    lengths = [seconds[int(row.fields["path"][:-4])] for row in drawn]
    assert [rows.index(row) for row in drawn] == [i for i in indices if i < len(seconds)][
        : len(drawn)
    ]
    assert sum(lengths[:-1]) <= 3600
    assert sum(lengths) > 3600 or len(drawn) == len(rows)


def test_long_clips_are_left_out_of_every_set_after_the_draw(tmp_path):
    folder = make_rows(tmp_path / "cv-corpus-13/es", 3, seconds=10)
    told = (
        (folder / "clip_durations.tsv").read_text().replace("clip1.mp3\t10000", "clip1.mp3\t10001")
    )
    (folder / "clip_durations.tsv").write_text(told)
    sets, ledger = read(tmp_path, ("train", "test"), subset="cl_masr", max_seconds="10")
    assert [names(sets[name]) for name in ("train", "test")] == [["clip2", "clip0"]] * 2
    assert ledger.counts() == {"longer than 10 s": 2}
    assert ledger.skips[0].detail == "10.00 s"
    (folder / "clip_durations.tsv").unlink()
    speech.write(folder / "clips" / "clip0.mp3", speech.tone(1.5, 300, 32000), 32000)
    sets, ledger = read(tmp_path, max_seconds="1")
    assert names(sets["test"]) == ["clip1", "clip2"]  # whose audio is not there: said when cut
    assert [e.id for e in ledger.skips] == ["c0-clip0"]
    with pytest.raises(ValueError, match="option max_seconds='0'"):
        read(tmp_path, max_seconds="0")
