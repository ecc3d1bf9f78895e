"""The sweep's command line: a user's mistake is one line and status 2."""

from dataclasses import replace

import pytest

from espnet_blora.bin import sweep
from espnet_blora.bin._common import read_options
from espnet_blora.decoding.options import DecodingOptions


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--scales", "0 a"], "sweep: error: --scales '0 a': numbers from 0 on"),
        (["--scales", "0 -1"], "--scales '0 -1': numbers from 0 on"),
        (["--keep", "old"], "--repair needs both --keep and --new"),
        (["--repair", "0.2", "--new", "n"], "--repair needs both --keep and --new"),
        ([], "sweep: error: {exp}/config.yaml: no such file; train first"),
        (["--sets", "x", "nope"], "/nope: no such set; there are x"),
        (["--sets", "x nope"], "/nope: no such set; there are x"),
    ],
)
def test_mistakes(tmp_path, mistake, extra, message):
    exp = tmp_path / "asr_x"
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "wav.scp").touch()
    words = ["--asr_exp", str(exp), "--dump", str(tmp_path), "--sets", "x", "--threads", "1"]
    said = mistake("sweep", sweep.main, [*words, *extra])
    assert message.format(exp=exp) in said


def options_of(*more):
    return read_options(sweep.get_parser().parse_args(["--asr_exp", "x", "--sets", "y", *more]))


def test_the_search_is_the_recipes(tmp_path):
    greedy = DecodingOptions(beam_size=1, rule="espnet", suppress_tokens="", batch_size=50)
    assert options_of() == greedy
    conf = tmp_path / "decode.yaml"
    conf.write_text("beam_size: 3\nmaxlenratio: 0.2\nctc_weight: 0.0\nnbest: 1\nbatch_size: 7\n")
    wider = replace(greedy, beam_size=3, maxlenratio=0.2)
    assert options_of("--inference_config", str(conf)) == wider
    for line, fragments in {
        "maxlenratio: much": ("decode.yaml", "maxlenratio", "'much'"),
        "beam_sise: 3": ("decode.yaml", "beam_sise", "beam_size"),
    }.items():
        conf.write_text(f"{line}\n")
        with pytest.raises(ValueError, match="decode.yaml") as caught:
            options_of("--inference_config", str(conf))
        assert all(fragment in str(caught.value) for fragment in fragments)
