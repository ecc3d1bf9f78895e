"""The launcher's settings in the environment."""

import os

import pytest

from espnet_blora.plugin import needs_plugin
from espnet_blora.plugin.settings import NEW_LANGUAGES, SCALE, WHISPER, Settings
from espnet_blora.utils.mistakes import parse_scale


def test_settings_survive_the_environment(monkeypatch):
    monkeypatch.delenv(WHISPER, raising=False)
    monkeypatch.delenv(SCALE, raising=False)
    monkeypatch.delenv(NEW_LANGUAGES, raising=False)
    assert Settings.current() == Settings(None, None)
    for settings in (Settings("large-v3", 0.7), Settings("small", None, ("rw", "kab"))):
        settings.export()
        assert Settings.current() == settings
    os.environ[NEW_LANGUAGES] = "rw,kab lg"  # by monkeypatch, the export above would come back
    assert Settings.current().new_languages == ("rw", "kab", "lg")
    Settings().export()
    assert Settings.current() == Settings(None, None)


@pytest.mark.parametrize("bad", ["", "x", "-1", "nan", "inf", "1,5"])
def test_a_bad_scale_is_refused_with_its_place(bad):
    with pytest.raises(ValueError, match=r"--adapter-scale.*finite number >= 0"):
        parse_scale(bad, "--adapter-scale")


@pytest.mark.parametrize(
    ("module", "arguments", "wanted"),
    [
        ("espnet2.bin.asr_train", [], True),
        ("espnet2.bin.asr_inference", [], True),
        ("espnet2.bin.whisper_export_vocabulary", [], True),
        ("espnet2.bin.launch", ["--", "python3", "-m", "espnet2.bin.asr_train"], False),
        ("espnet2.bin.aggregate_stats_dirs", [], False),
        ("espnet2.bin.tokenize_text", ["--token_type", "char"], False),
        ("espnet2.bin.tokenize_text", ["--token_type", "whisper_multilingual"], True),
        ("espnet_blora.bin.score", [], False),
        ("my_own.training", [], True),
    ],
)
def test_only_programs_that_build_models_are_plugged_in(module, arguments, wanted):
    assert needs_plugin(module, arguments) is wanted
