"""Reading what experiments left behind."""

import json
import shutil
from dataclasses import replace

import pytest

from espnet_blora.report.by_experiment import results_md
from espnet_blora.report.collect import collect, read_training_log
from espnet_blora.scoring import SetScore
from espnet_blora.scoring.job import by_group

SETS = ["test_cs", "ret_en", "ret_zh"]


def test_a_training_log():
    log = (
        "# python3 -m x --y z\n"
        "INFO: adapter 'blora' on 48 Linears: trainable parameters 811,008 of 8,975,104 (9.036 %)\n"
        "INFO: 1epoch:train:1-20batch: iter_time=0.01, train_time=9.0\n"
        "INFO: 1epoch results: [train] iter_time=0.0, loss=1, train_time=2.500, total_count=20\n"
        "INFO: 2epoch results: [train] iter_time=0.0, loss=1, train_time=1.500, total_count=40\n"
        "INFO: 2epoch results: [train] iter_time=0.0, loss=1, train_time=1.000, total_count=40\n"
    )
    found = read_training_log(log)
    assert found.seconds_per_step == 1.75  # a resumed epoch counts once, as it ended
    assert (found.trainable, found.total) == (811008, 8975104)
    assert found.trainable / found.total == pytest.approx(0.0904, abs=1e-4)
    assert found.command == "python3 -m x --y z"


def test_a_training_log_of_plain_espnet():
    log = "    Number of trainable parameters: 59.30 K (0.7%)\n"
    found = read_training_log(log)
    assert found.trainable == 59300 and found.trainable / found.total == pytest.approx(
        0.007, rel=1e-3
    )
    assert found.seconds_per_step is None and found.command == ""


def test_a_whole_experiment(finished_tree):
    found = collect(finished_tree / "asr_blora", "blora", SETS)
    assert set(found.scores) == set(SETS) and found.label == "BLoRA"
    assert found.training.seconds_per_step == 0.27
    assert found.means_bytes == 2 * 2 * 4 * 32 * 4
    assert found.adapter_bytes == found.means_bytes + 2 * 4 * 32 * 4
    assert found.checkpoint_bytes > found.adapter_bytes
    assert found.sparsity["delta W"].below > 0.9
    assert [row.scale for row in found.sweep] == [0.5] * 3 + [0.7] * 3 + [0.9] * 3
    assert len(found.notes) == 1 and "no sclite result.txt" in found.notes[0]


def test_what_is_not_there_is_noted(tmp_path):
    nothing = collect(tmp_path / "asr_x", "lora", SETS)
    assert not nothing.exists and "does not exist" in nothing.notes[0]
    (tmp_path / "asr_x" / "decode" / "ret_en" / "score_wer").mkdir(parents=True)
    result = tmp_path / "asr_x" / "decode" / "ret_en" / "score_wer" / "result.txt"
    result.write_text("not scored: no sclite\n | Sum/Avg|  not scored | - - - - - - |\n")
    (tmp_path / "asr_x" / "scale_sweep.json").write_text(json.dumps([{"scale": 1}]))
    (tmp_path / "asr_x" / "config.yaml").write_text("a: [")
    notes = "\n".join(collect(tmp_path / "asr_x", "lora", SETS).notes)
    for said in (
        "config.yaml cannot be read",
        "no score of test_cs",
        "sclite did not score ret_en (wer): not scored: no sclite",
        "no train.log",
        "no valid.*.best.pth",
        "scale_sweep.json cannot be read",
    ):
        assert said in notes


def test_damaged_files_are_noted(finished_tree, tmp_path):
    folder = tmp_path / "asr_lora"
    where = folder / "decode" / "ret_en" / "score_blora"
    where.mkdir(parents=True)
    good = finished_tree / "asr_lora" / "decode" / "ret_en" / "score_blora" / "score.json"
    (where / "score.json").write_text(good.read_text()[:400])
    (folder / "valid.acc.best.pth").write_bytes(b"cut")
    found = collect(folder, "lora", ["ret_en"])
    assert not found.scores and not found.sparsity
    assert "not what espnet-blora score writes" in "\n".join(
        found.notes
    ) and "no sparsity" in "\n".join(found.notes)


def test_a_validation_set_lies_in_a_folder_of_its_own(finished_tree, tmp_path):
    """asr.sh decodes it under org/, as it was before stage 4."""
    folder = tmp_path / "asr_lora"
    shutil.copytree(finished_tree / "asr_lora", folder)
    (folder / "decode" / "org").mkdir()
    (folder / "decode" / "ret_en").rename(folder / "decode" / "org" / "ret_en")
    found = collect(folder, "lora", SETS)
    assert set(found.scores) == set(SETS)
    assert found.decoded["ret_en"] == folder / "decode" / "org" / "ret_en"
    assert "decode/org/ret_en|60|" in results_md([found], SETS, folder)


def test_a_sweep_of_an_older_release_is_noted(finished_tree, tmp_path):
    folder = tmp_path / "asr_lora"
    shutil.copytree(finished_tree / "asr_lora", folder)
    rows = json.loads((folder / "scale_sweep.json").read_text())
    whole = collect(folder, "lora", SETS)
    assert all(row.detail is not None for row in whole.sweep)
    for row in rows:
        del row["counts_sha256"]
    (folder / "scale_sweep.json").write_text(json.dumps(rows))
    found = collect(folder, "lora", SETS)
    assert found.sweep == whole.sweep and all(row.detail is None for row in found.sweep)
    assert "has no counts by utterance (scale_sweep.npz)" in "\n".join(found.notes)


def test_what_intervals_rest_on(finished_tree, tmp_path):
    place = tmp_path / "asr_none" / "decode" / "ret_en" / "score_blora"
    source = finished_tree / "asr_none" / "decode" / "ret_en" / "score_blora" / "score.json"
    scored = SetScore.load(source)
    ids = {u.id: f"s{n % 6}" for n, u in enumerate(scored.utterances)}
    named = replace(
        scored, utterances=tuple(replace(u, speaker=ids[u.id]) for u in scored.utterances)
    )
    by_speaker = by_group(scored, ids)

    def units(score, resample):
        score.save(place / "score.json", by_speaker=by_speaker)
        found = collect(tmp_path / "asr_none", "base", ["ret_en"], resample=resample)
        return found.scores["ret_en"].units.kind, "\n".join(found.notes)

    assert units(named, "auto")[0] == "speakers" and units(named, "utterances")[0] == "utterances"
    kind, notes = units(scored, "auto")
    assert kind == "utterances" and "does not say who speaks" in notes
    assert "does not say who speaks" not in units(scored, "utterances")[1]
    with pytest.raises(ValueError, match=r"score.json: --resample speakers: 60 of 60 utterances"):
        units(scored, "speakers")
