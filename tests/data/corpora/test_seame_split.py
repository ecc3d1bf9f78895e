"""SEAME's official split: names, matching of times, the draw for validation, fetching."""

import random
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_blora.data.corpora import seame_split as official
from espnet_blora.data.corpora.seame_split import Listed, canonical, draw_valid, match, speaker_of


@pytest.mark.parametrize(
    ("name", "same", "speaker"),
    [
        ("99NC98FBX_0101", "99nc98fbx_0101", "nc98f"),
        ("NI97MBP_0101", "ni97mbp_0101", "ni97m"),
        ("UI96FAZ_0105", "ui96faz_0105", "ui96f"),
        ("31NC50XFB_0101", "31nc50fbx_0101", "nc50f"),
        ("98nc98fby_0201", "98nc98fby_0201", "nc98f"),
        ("anything", "anything", "anyth"),
    ],
)
def test_names(name, same, speaker):
    assert canonical(name) == same
    assert speaker_of(name) == speaker_of(same) == speaker


def listed(start, end, recording="a"):
    return Listed(f"s-{recording}-{start:05d}-{end:05d}", recording, start, end, "", "f:1")


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [(100, 200, True), (97, 203, True), (103, 197, True), (96, 200, False), (100, 204, False)],
)
def test_times_match_to_within_three_centiseconds_at_both_ends(start, end, found):
    hits, lost = match([listed(start, end)], {"a": [(100, 200)]})
    assert (list(hits.values()), len(lost)) == ([("a", 0)] if found else [], 0 if found else 1)


def test_the_nearest_line_is_taken_and_each_only_once():
    lines = {"a": [(103, 200), (101, 200)], "b": [(100, 200)]}
    hits, lost = match(
        [listed(100, 200), listed(100, 201), listed(99, 200), listed(1, 2, "c")], lines
    )
    assert match([listed(101, 200)], {"a": [(102, 201), (101, 199), (101, 200)]})[0] == {
        "s-a-00101-00200": ("a", 2)
    }
    assert hits["s-a-00099-00200"] == ("a", 1)
    assert hits["s-a-00100-00200"] == ("a", 0)
    assert [one.id for one in lost] == ["s-c-00001-00002", "s-a-00100-00201"][::-1]


def test_numbers_count_not_digits():
    hits, lost = match([listed(102792, 103876)], {"a": [(812, 1145), (102792, 103876)]})
    assert hits == {"s-a-102792-103876": ("a", 1)} and not lost


spans = st.lists(
    st.tuples(st.integers(0, 300), st.integers(1, 60)).map(lambda p: (p[0], p[0] + p[1])),
    max_size=12,
)


@given(spans, spans)
def test_matches_are_near_and_what_is_lost_had_no_free_line(lines, wanted):
    wanted = [listed(*span) for span in dict.fromkeys(wanted)]
    hits, lost = match(wanted, {"a": lines})
    assert len(set(hits.values())) == len(hits)
    assert {one.id for one in wanted} == set(hits) | {one.id for one in lost}

    def near(one, span):
        return abs(one.start - span[0]) <= 3 and abs(one.end - span[1]) <= 3

    for one in wanted:
        if one.id in hits:
            assert near(one, lines[hits[one.id][1]])
    free = [i for i in range(len(lines)) if ("a", i) not in set(hits.values())]
    assert not any(near(one, lines[i]) for one in lost for i in free)


def test_the_draw_depends_on_names_alone():
    ids = [f"spk{i % 7}-{i:04d}" for i in range(200)]
    shuffled = random.Random(3).sample(ids, len(ids))
    assert draw_valid(ids, "5%") == draw_valid(shuffled, "5%") == draw_valid(ids, "0.05")
    assert len(draw_valid(ids, "5%")) == 10
    assert len(draw_valid(ids, "30")) == 30
    assert draw_valid(ids, "5%") < draw_valid(ids, "30")
    assert len(draw_valid(ids[:5], "5%")) == 1
    assert draw_valid(ids, "0") == set()


@pytest.mark.parametrize("value", ["x", "-1", "1.0", "100%", "nan", "", "inf", "5 %%"])
def test_bad_sizes(value):
    with pytest.raises(ValueError, match="300.*5%.*0.05"):
        draw_valid(["a", "b"], value)


def write(folder, **files):
    for name, text in {
        "train/wav_file.txt": "./x/01nc01fbx_0101/01nc01fbx_0101.wav\n\n./x/ni01max_0101.wav\n",
        "dev_man/segments": "s-ni02max_0101-00010-00020 ni02max_0101 0.10 0.21\n",
        "dev_man/text": "s-ni02max_0101-00010-00020 我 们 go\n",
        "dev_sge/segments": "s-ni03max_0101-99999-100020 ni03max_0101 999.99 1000.20\n",
        "dev_sge/text": "s-ni03max_0101-99999-100020 ok\n",
        **files,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_reading(tmp_path):
    split = official.read_split(write(tmp_path))
    assert split.train == {"01nc01fbx_0101", "ni01max_0101"}
    (one,) = split.tests["devsge"]
    assert (one.recording, one.start, one.end) == ("ni03max_0101", 99999, 100020)
    assert split.tests["devman"][0].text == "我 们 go"
    assert len(split.recordings()) == 4


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("dev_man/segments", "a b 1 2\n", "dev_man/segments:1: 'a' 'b 1 2'; expected"),
        ("dev_man/segments", "s-x-1-2\n", "segments:1: 's-x-1-2' ''; expected"),
        ("dev_man/text", "other x\n", "segments:1: .* is not in .*text; clone it again"),
        ("train/wav_file.txt", "\n", "wav_file.txt: names no recording"),
    ],
)
def test_bad_clones(tmp_path, name, text, says):
    with pytest.raises(ValueError, match=says):
        official.read_split(write(tmp_path, **{name: text}))


def git(*words, cwd):
    config = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *config, *words], cwd=cwd, check=True, capture_output=True)


def test_fetching_clones_once(tmp_path, monkeypatch):
    source = write(tmp_path / "source")
    git("init", "-q", cwd=source)
    git("add", ".", cwd=source)
    git("commit", "-q", "-m", "x", cwd=source)
    monkeypatch.setattr(official, "URL", str(source))
    target = tmp_path / "downloads" / "SEAME-dev-set"
    assert official.fetch(target) == target
    assert len(official.read_split(target).train) == 2
    monkeypatch.setattr(official, "URL", str(tmp_path / "gone"))
    assert official.fetch(target) == target
    assert [p.name for p in target.parent.iterdir()] == ["SEAME-dev-set"]


def test_what_cannot_be_fetched_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(official, "URL", str(tmp_path / "gone"))
    target = tmp_path / "split"
    command = f"git clone {tmp_path / 'gone'} {target}"
    with pytest.raises(FileNotFoundError, match="git clone") as caught:
        official.fetch(target)
    assert command in str(caught.value)
    assert not list(tmp_path.iterdir())
    target.mkdir()
    (target / "README.md").touch()
    with pytest.raises(FileNotFoundError, match="is not a clone") as caught:
        official.fetch(target)
    assert command in str(caught.value)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="git clone"):
        official.fetch(tmp_path / "other")
