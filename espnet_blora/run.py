"""Launcher: plug espnet_blora into ESPnet, then run an ESPnet program as if started itself.

ESPnet's recipes start every program as `${python} -m espnet2.bin.X`, so
`--python "python3 -m espnet_blora.run --whisper small"` plugs in without touching ESPnet.

This stays a plain module with registration at its top level: a worker that ESPnet spawns imports
the main module again under the name `__mp_main__`, and so gets everything its parent had. A
package `__main__`, or `runpy` taking the place of `__main__`, would lose that.
"""

import argparse
import gc
import importlib
import importlib.util
import logging
import os
import pkgutil
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from espnet_blora import plugin
from espnet_blora.plugin.settings import NEW_LANGUAGES, PROGRAM, SCALE, SEARCH, SEARCHES, WHISPER
from espnet_blora.utils.mistakes import (
    DEBUG,
    did_you_mean,
    users_mistake,
    wants_traceback,
)
from espnet_blora.utils.program import Parser, scale

USAGE = """python3 -m espnet_blora.run [options] -m MODULE [ARG ...]
       python3 -m espnet_blora.run [options] SCRIPT.py [ARG ...]"""

DESCRIPTION = """\
Plug espnet_blora into ESPnet, then run MODULE (espnet2.bin.asr_train, ...) or SCRIPT.py as if it
had been started itself: its options, its --help and its exit code. All words after MODULE or
SCRIPT.py are its own.

In an ESPnet recipe: ./asr.sh --python "python3 -m espnet_blora.run --whisper small" ..."""

EPILOG = f"""\
A mistake in the options, the data or the settings ends in one line "espnet_blora: error: ..." and
exit status 2; {DEBUG}=1 in the environment shows its traceback."""

INFERENCE = "espnet2.bin.asr_inference"
PACK = "espnet2.bin.pack"
FORMER_SEARCHES = {"own": "batched"}

log = logging.getLogger(__name__)


def get_parser() -> Parser:
    """Return the parser of the launcher's own options; each is an environment variable."""
    parser = Parser("espnet_blora", DESCRIPTION, usage=USAGE, epilog=EPILOG)
    parser.add_argument(
        "--whisper",
        dest=WHISPER,
        metavar="SIZE_OR_FILE",
        type=_not_empty,
        help="the Whisper model of this experiment: a published size (tiny ... large-v3-turbo) or "
        "a checkpoint file (.pt, .safetensors)",
    )
    parser.add_argument(
        "--new_languages",
        dest=NEW_LANGUAGES,
        metavar="CODES",
        type=_not_empty,
        help="languages to add to those that the Whisper has: stage 5 and training (codes of 2 or "
        "3 letters, commas between them; decoding knows them)",
    )
    parser.add_argument(
        "--adapter_scale",
        dest=SCALE,
        metavar="F",
        type=scale,
        help="decoding: multiply the adapter's update by F >= 0 (0: the base model)",
    )
    parser.add_argument(
        "--search",
        dest=SEARCH,
        type=_search,
        choices=SEARCHES,
        help=f"decoding: our batched search or ESPnet's own (default: {SEARCHES[0]})",
    )
    return parser


def _not_empty(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("needs a value; found an empty one")
    return text


def _search(word: str) -> str:
    if word in FORMER_SEARCHES:
        log.warning("--search %s is called --search %s now", word, FORMER_SEARCHES[word])
    return FORMER_SEARCHES.get(word, word)


def parse(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Part the launcher's own options from the program, which begins with `-m` or a file's name.

    Exits with status 2 on an unknown or incomplete option, and if there is nothing to run.
    """
    parser = get_parser()
    count = 0
    while count < len(words) and words[count].startswith("-") and words[count] != "-m":
        alone = "=" in words[count] or words[count] in ("-h", "--help")
        count += 1 if alone else 2
    options, unknown = parser.parse_known_args(words[:count])
    program = list(words[count:])
    if unknown:
        near = did_you_mean(unknown[0].partition("=")[0], parser._option_string_actions)
        parser.error(
            f"unknown option {unknown[0]!r}{near} (options of the program go after -m MODULE)"
        )
    if not program or program == ["-m"]:
        parser.error(
            "nothing to run: give -m MODULE, for example -m espnet2.bin.asr_train, or SCRIPT.py"
        )
    return options, program


def find_module(name: str) -> str:
    """Return the file of module `name` without importing it (only its parent packages).

    Raises:
        ValueError: There is no such module; near misses among its siblings are named.
    """
    parent, _, last = name.rpartition(".")
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin or spec.submodule_search_locations is not None:
        reason = "it is a package" if spec and spec.submodule_search_locations else "there is none"
        folders = getattr(sys.modules.get(parent), "__path__", ())
        siblings = [module.name for module in pkgutil.iter_modules(folders)] if folders else []
        raise ValueError(
            f"cannot run module {name!r}: {reason}{did_you_mean(last, siblings, count=3)}"
        )
    return spec.origin


def run_module(name: str, file: str, arguments: list[str]) -> None:
    """Import module `name` and call its main(), with sys.argv as Python itself would set it."""
    sys.argv = [file, *arguments]
    module = importlib.import_module(name)
    main = getattr(module, "main", None)
    if callable(main):
        result = main()
        # ESPnet's programs end in `main()`, ours and espnet2.bin.cli in `sys.exit(main())`.
        if isinstance(result, int) and not isinstance(result, bool):
            sys.exit(result)
    else:
        del sys.modules[name]
        runpy.run_module(name, run_name="__main__", alter_sys=False)


def run_script(path: str, arguments: list[str]) -> None:
    """Run a Python file as `python3 path` would: its folder first on sys.path.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no script {path!r}, and no -m MODULE before it: to run an ESPnet program write "
            "-m espnet2.bin.NAME"
        )
    # The small scripts that asr.sh starts build no model.
    if "pyscripts" not in Path(path).parts:
        plug_in(path)
    sys.argv = [path, *arguments]
    sys.path.insert(0, str(Path(path).resolve().parent))
    runpy.run_path(path, run_name="__main__")


@contextmanager
def imports_kept() -> Iterator[None]:
    """Import what is never garbage: looking through it again and again takes a second."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


def plug_in(program: str) -> None:
    """Plug in here and in the workers that the program will spawn."""
    os.environ[PROGRAM] = program
    with imports_kept():
        plugin.register()


def decoded_in_batches(arguments: list[str]) -> bool:
    """Decode with our batched search if the options allow; False leaves it to ESPnet's program.

    ESPnet is not imported for it, which saves seconds per job.
    """
    with imports_kept():
        from espnet_blora.plugin import batched_inference

    options = batched_inference.takes(arguments)
    if options is None:
        return False
    batched_inference.inference(options)
    return True


def run_program(program: list[str]) -> None:
    """Run `-m MODULE ARG ...` or `SCRIPT ARG ...`, plugged in where it needs that.

    Raises:
        ValueError: There is no such module, or what the program itself raises.
        FileNotFoundError: There is no such script.
    """
    if program[0] != "-m":
        return run_script(program[0], program[1:])
    module, arguments = program[1], program[2:]
    file = find_module(module)
    if module == INFERENCE and decoded_in_batches(arguments):
        return None
    if plugin.needs_plugin(module, arguments):
        plug_in(module)
    run_module(module, file, arguments)
    if module == PACK:
        from espnet_blora.plugin.packing import complete

        complete(arguments)
    return None


def main(argv: Sequence[str] | None = None) -> None:
    """Read the launcher's options, plug in where the program needs it, and run the program."""
    options, program = parse(sys.argv[1:] if argv is None else argv)
    # In the environment, settings reach the processes that the program starts.
    given = {name: str(value) for name, value in vars(options).items() if value is not None}
    os.environ.update(given)
    try:
        run_program(program)
    except (ValueError, OSError) as error:
        message = users_mistake(error)
        if message is None or wants_traceback():
            raise
        sys.stderr.write(f"espnet_blora: error: {message} ({DEBUG}=1 shows where it arose)\n")
        sys.exit(2)


if __name__ == "__mp_main__":
    plugin.register_worker()

if __name__ == "__main__":
    main()
