"""What recipes ask for: a shared file's path, the corpora's variables."""

from pathlib import Path

from espnet_blora.bin import recipe


def test_a_shared_file_is_found_and_a_wrong_name_is_a_mistake(capsys):
    assert recipe.main(["run.sh"]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()
    assert recipe.main(["nosuch.sh"]) == 2
    message = capsys.readouterr().err
    assert "nosuch.sh" in message and "conf/train.yaml" in message


def test_variables_of_corpora_are_listed(capsys):
    assert recipe.main(["--variables"]) == 0
    assert {"SEAME", "CUSTOM", "LIBRISPEECH"} <= set(capsys.readouterr().out.split())
