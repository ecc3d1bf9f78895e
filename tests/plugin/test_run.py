"""The launcher: its own options and errors, and programs that behave as if started themselves."""

import sys

import pytest

from espnet_blora import run as blora_run
from espnet_blora.adapters import METHODS
from espnet_blora.plugin.settings import NEW_LANGUAGES, SCALE, SEARCH, WHISPER
from tests.plugin.tiny import launcher, run

TRAIN = "espnet2.bin.asr_train"


VARIABLES = {
    "whisper": WHISPER,
    "new_languages": NEW_LANGUAGES,
    "adapter_scale": SCALE,
    "search": SEARCH,
}


def given(**options):
    return {variable: options.get(name) for name, variable in VARIABLES.items()}


@pytest.mark.parametrize(
    ("line", "options", "program"),
    [
        (f"-m {TRAIN} --whisper x", {}, f"-m {TRAIN} --whisper x"),
        (f"--whisper small -m {TRAIN}", {"whisper": "small"}, f"-m {TRAIN}"),
        (
            f"--whisper=a/b.pt --adapter-scale 0.7 -m {TRAIN} -m x --help",
            {"whisper": "a/b.pt", "adapter_scale": 0.7},
            f"-m {TRAIN} -m x --help",
        ),
        ("--new-languages rw,kab -m x", {"new_languages": "rw,kab"}, "-m x"),
        ("--new_languages rw -m x --new-languages y", {"new_languages": "rw"},
         "-m x --new-languages y"),
        ("--adapter_scale 0 -m x", {"adapter_scale": 0.0}, "-m x"),
        ("--search espnet -m x", {"search": "espnet"}, "-m x"),
        ("--search batched -m x", {"search": "batched"}, "-m x"),
        ("--search own -m x", {"search": "batched"}, "-m x"),
        ("--whisper tiny a/script.py -x", {"whisper": "tiny"}, "a/script.py -x"),
    ],
)  # fmt: skip
def test_options_before_the_module_are_the_launchers(line, options, program):
    own, rest = blora_run.parse(line.split())
    assert vars(own) == given(**options)
    assert rest == program.split()


def test_the_former_name_of_our_search_is_warned_of(caplog):
    blora_run.parse(f"--search own -m {TRAIN}".split())
    assert "batched" in caplog.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "-m MODULE"),
        ("--whisper small", "-m MODULE"),
        ("-m", "-m MODULE"),
        (f"--whisper -m {TRAIN}", "--whisper"),
        ("--whisper", "--whisper"),
        (f"--whisper= -m {TRAIN}", "--whisper"),
        (f"--wisper small -m {TRAIN}", "unknown option '--wisper'; did you mean '--whisper'"),
        (f"--ngpu 1 -m {TRAIN}", "unknown option '--ngpu'"),
        ("-x", "unknown option '-x'"),
        (f"--search mine -m {TRAIN}", "'mine'"),
        ("-m espnet2.bin.asr_trian", "did you mean 'asr_train'"),
        ("-m espnet2.bin.bsae_train_model", "there is none"),
        ("-m no_such_package.module", "there is none"),
        ("-m espnet2.bin", "it is a package"),
        ("no_such_script.py", "no script 'no_such_script.py'"),
        (f"--adapter-scale -1 -m {TRAIN}", "found '-1'"),
        (f"--adapter_scale x -m {TRAIN}", "finite number >= 0"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(line, message, capsys):
    with pytest.raises(SystemExit) as caught:
        blora_run.main(line.split())
    assert caught.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith("espnet_blora: error: ") and text.count("\n") == 1
    assert message in text


def test_help_is_the_launchers_own(capsys):
    with pytest.raises(SystemExit) as caught:
        blora_run.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "--whisper SIZE_OR_FILE" in text and "--adapter_scale F" in text and "asr.sh" in text
    assert "SCRIPT.py" in text and "batched" in text


def test_light_programs_do_not_load_torch():
    code = (
        "import sys; from espnet_blora import run; sys.argv[1:] = sys.argv[1:];"
        "run.main(['--whisper', 'small', '-m', 'espnet2.bin.launch', '--cmd', 'echo', '--log',"
        " sys.argv[1], '--ngpu', '0', '--', 'python3', '-m', 'espnet_blora.run', '--whisper',"
        " 'small', '-m', 'espnet2.bin.asr_train', '--config', 'x']);"
        "heavy = {'torch', 'whisper', 'espnet2.tasks.asr'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = run([sys.executable, "-c", code, "/tmp/never-written.log"])
    assert done.returncode == 0, done.stderr[-2000:]
    # ESPnet's launch passes the inner command on as it is.
    assert "python3 -m espnet_blora.run --whisper small -m espnet2.bin.asr_train" in done.stdout


@pytest.mark.integration
def test_a_program_runs_as_if_started_itself():
    ours = run([*launcher("--whisper", "small"), "-m", TRAIN, "--help"])
    theirs = run([sys.executable, "-m", TRAIN, "--help"])
    assert ours.returncode == theirs.returncode == 0
    assert ours.stdout.startswith("usage: asr_train.py ")
    # The same text except for the names of the adapters and of our scheduler, and `retain`.
    shown, stock = ("".join(done.stdout.split()) for done in (ours, theirs))
    names = ",".join(sorted({*METHODS, "houlsby"}))
    assert f"{{{names}}}" in shown and ",newbob,None}" in shown
    shown = shown.replace(f"{{{names}}}", "{lora,houlsby}").replace(",newbob,None}", ",None}")
    for ours_alone in ("[--retainRETAIN]", "--retainRETAINoldaudio'sterm(default:{})"):
        assert ours_alone in shown
        shown = shown.replace(ours_alone, "")
    assert shown == stock


@pytest.mark.integration
def test_exit_codes_are_the_programs():
    done = run([*launcher("--whisper", "tiny"), "-m", "espnet2.bin.tokenize_text"])
    assert done.returncode == 2 and "tokenize_text.py: error: " in done.stderr


@pytest.mark.integration
def test_a_spawned_worker_is_plugged_in_as_its_parent():
    options = ("--whisper", "some.pt", "--adapter-scale", "0.5", "--new-languages", "rw,kab")
    done = run([*launcher(*options), "-m", "tests.plugin.spawner", "7", "--x"])
    assert done.returncode == 7, done.stderr[-2000:]
    for where in ("parent", "worker"):
        names = " ".join(sorted({*METHODS, "houlsby"}))
        assert f"{where}: {names}; BloraASRModel; some.pt 0.5 rw,kab" in done.stdout
    assert "argv: spawner.py 7 --x" in done.stdout


def test_a_script_runs_as_python_runs_it(tmp_path):
    # In a folder of the name that ESPnet's recipes have for scripts that build no model.
    script = tmp_path / "pyscripts" / "beside.py"
    script.parent.mkdir()
    (script.parent / "helper_of_script.py").write_text("VALUE = 5\n")
    script.write_text(
        "import sys, helper_of_script\nprint(__name__, sys.argv[1:], 'torch' in sys.modules)\n"
        "sys.exit(helper_of_script.VALUE)\n"
    )
    done = run([*launcher(), str(script), "a", "-b"])
    assert done.returncode == 5 and "__main__ ['a', '-b'] False" in done.stdout
