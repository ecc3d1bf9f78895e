"""The check of a user's copy: a table, and a status that says whether something is missing."""

from espnet_blora.bin import check_corpus
from espnet_blora.data.check import check, complete, table
from espnet_blora.data.records import Item
from tests.data.layouts import toy


def program(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(check_corpus, "get_corpus", lambda name: toy.CORPUS)
    status = check_corpus.main(["toy", *map(str, arguments)])
    return status, *capsys.readouterr()


def test_whole_broken_and_absent(tmp_path, monkeypatch, capsys):
    layout = toy.make(tmp_path)
    status, out, err = program(monkeypatch, capsys, layout.root)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "Toy, tones"
    assert lines[2].split() == ["what", "found", "expected"]
    assert lines[4].split() == ["ok", "recordings", "3", "3"]
    assert lines[-1] == "toy: nothing that is needed is missing"

    (tmp_path / "audio" / "sph.sph").unlink()
    status, out, _ = program(monkeypatch, capsys, layout.root)
    assert status == 1
    assert "recordings  2" in out
    assert "PROBLEM  recordings" in out
    assert "Where to get it: made by the tests" in out

    status, out, _ = program(monkeypatch, capsys, tmp_path / "nosuch")
    assert status == 1
    assert "no table.tsv" in out


def test_mistakes_are_one_line_and_status_2(tmp_path, monkeypatch, capsys):
    for option, says in (("x=1", "toy has no option x"), ("x", "NAME=VALUE is expected")):
        status, out, err = program(
            monkeypatch, capsys, "--corpus_dir", tmp_path, "--corpus_option", option
        )
        assert (status, out) == (2, "")
        assert err.count("\n") == 1
        assert says in err


def test_the_folder_is_given_once_by_an_option_or_without(tmp_path, monkeypatch, capsys):
    root = toy.make(tmp_path).root
    for folder in ([root], ["--corpus_dir", root], ["--corpus-dir", root]):
        assert program(monkeypatch, capsys, *folder, "--option", "language=en")[0] == 0
    for folder in ([], [root, "--corpus_dir", root]):
        status, _, err = program(monkeypatch, capsys, *folder)
        assert status == 2 and "--corpus_dir" in err


def test_only_what_is_needed_makes_a_copy_incomplete():
    items = [Item("a", "1", "", None), Item("b", "1", "1", True)]
    assert complete(items)
    assert not complete([*items, Item("c", "0", "1", False)])


def test_columns_stand_below_each_other_except_after_a_long_cell():
    items = [Item("a", "x" * 100, "1", True), Item("bb", "2", "2", None)]
    lines = table(toy.CORPUS, items).splitlines()
    assert lines[4].startswith("    bb    2 ")
    assert lines[2].index("expected") == lines[4].rindex("2")
    assert max(map(len, lines)) <= 120


def test_not_found_is_one_item(tmp_path):
    (item,) = check(toy.CORPUS, tmp_path, {})
    assert item.ok is False
    assert str(tmp_path) in item.what
