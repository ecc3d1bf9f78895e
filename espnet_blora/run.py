"""Plug espnet_blora into ESPnet, then run an ESPnet program as if it had been started itself.

    python3 -m espnet_blora.run [--whisper SIZE_OR_FILE] [--new-languages CODE,CODE]
        [--adapter-scale F] [--search own|espnet] -m espnet2.bin.X ...

ESPnet's recipes start every program as `${python} -m espnet2.bin.X`, so
`--python "python3 -m espnet_blora.run --whisper small"` plugs in without touching ESPnet.

This stays a plain module with registration at its top level: a worker that ESPnet spawns imports
the main module again under the name `__mp_main__`, and so gets everything its parent had. A
package `__main__`, or `runpy` taking the place of `__main__`, would lose that.
"""

import difflib
import gc
import importlib
import importlib.util
import os
import pkgutil
import runpy
import sys
from pathlib import Path

from espnet_blora import plugin
from espnet_blora.plugin.settings import (
    NEW_LANGUAGES,
    PROGRAM,
    SCALE,
    SEARCH,
    SEARCHES,
    WHISPER,
)
from espnet_blora.utils.mistakes import DEBUG, parse_scale, users_mistake, wants_traceback

USAGE = """\
usage: python3 -m espnet_blora.run [--whisper SIZE_OR_FILE] [--new-languages CODE,CODE]
                                   [--adapter-scale F] [--search own|espnet] -m MODULE [ARG ...]
       python3 -m espnet_blora.run [the same options] SCRIPT.py [ARG ...]

Plug espnet_blora into ESPnet, then run MODULE (espnet2.bin.asr_train, ...) as if it had been
started itself: its options, its --help and its exit code.

  --whisper SIZE_OR_FILE  the Whisper model of this experiment: a published size (tiny ...
                          large-v3-turbo) or a checkpoint file (.pt, .safetensors)
  --new-languages CODES   languages to add to those that the Whisper has: stage 5 and training
                          (codes of 2 or 3 letters, commas between them; decoding knows them)
  --adapter-scale F       decoding: multiply the adapter's update by F >= 0 (0: the base model)
  --search own|espnet     decoding: our batched search (default), or ESPnet's own
  -m MODULE               the module to run; everything after it belongs to the module
  -h, --help              this text

A mistake in the data or the settings ends in one line "espnet_blora: error: ..." and exit code 1;
ESPNET_BLORA_DEBUG=1 in the environment shows its traceback.

In an ESPnet recipe: ./asr.sh --python "python3 -m espnet_blora.run --whisper small" ...
"""


INFERENCE = "espnet2.bin.asr_inference"


class UsageError(Exception):
    """The command line is wrong; its text says what, what is allowed and what to do."""


def parse(argv: list[str]) -> tuple[dict[str, str], str | None, str | None, list[str]]:
    """Split the launcher's own options from the program's: (options, module, script, arguments).

    Everything after `-m MODULE` or after the first word that is no option belongs to the program.

    Raises:
        UsageError: An unknown or incomplete option, or nothing to run.
    """
    options: dict[str, str] = {}
    known = {
        "--whisper": "whisper",
        "--new-languages": "new_languages",
        "--adapter-scale": "adapter_scale",
        "--search": "search",
    }
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word in ("-h", "--help"):
            options["help"] = "yes"
            return options, None, None, []
        if name in known:
            if not equals:
                if not rest or rest[0] == "-m":
                    raise UsageError(f"{name} needs a value")
                value = rest.pop(0)
            if not value:
                raise UsageError(f"{name} needs a value; found an empty one")
            options[known[name]] = value
        elif word == "-m":
            if not rest:
                raise UsageError("-m needs the name of a module, for example espnet2.bin.asr_train")
            return options, rest[0], None, rest[1:]
        elif word.startswith("-"):
            near = difflib.get_close_matches(name, [*known, "--help"], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(
                f"unknown option {word!r} (allowed before -m: {', '.join(known)}){hint} "
                "Options of the program itself go after -m MODULE."
            )
        else:
            return options, None, word, rest
    raise UsageError("nothing to run: -m MODULE is missing")


def find_module(name: str) -> str:
    """Return the file of module `name` without importing it (only its parent packages).

    Raises:
        UsageError: There is no such module; near misses among its siblings are named.
    """
    parent, _, last = name.rpartition(".")
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin or spec.submodule_search_locations is not None:
        reason = "it is a package" if spec and spec.submodule_search_locations else "there is none"
        siblings: list[str] = []
        package = sys.modules.get(parent)
        if package is not None and hasattr(package, "__path__"):
            siblings = [module.name for module in pkgutil.iter_modules(package.__path__)]
        near = difflib.get_close_matches(last, siblings, n=3)
        hint = f"; near misses: {', '.join(f'{parent}.{n}' for n in near)}" if near else ""
        raise UsageError(f"cannot run module {name!r}: {reason}{hint}")
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
        UsageError: There is no such file.
    """
    if not Path(path).is_file():
        raise UsageError(
            f"no script {path!r}, and no -m MODULE before it: to run an ESPnet program write "
            "-m espnet2.bin.NAME"
        )
    sys.argv = [path, *arguments]
    sys.path.insert(0, str(Path(path).resolve().parent))
    runpy.run_path(path, run_name="__main__")


def decoded_by_us(arguments: list[str]) -> bool:
    """Decode with our own search if the options allow; False leaves it to ESPnet's program.

    ESPnet is not imported for it, which saves seconds a job.
    """
    gc.disable()  # what is imported is never garbage: looking through it takes half a second
    from espnet_blora.plugin import batched_inference

    gc.enable()
    gc.freeze()
    options = batched_inference.takes(arguments)
    if options is None:
        return False
    batched_inference.inference(options)
    return True


def main(argv: list[str] | None = None) -> None:
    """Read the launcher's options, plug in where the program needs it, and run the program."""
    try:
        options, module, script, arguments = parse(sys.argv[1:] if argv is None else argv)
        if "help" in options:
            sys.stdout.write(USAGE)
            return
        if "adapter_scale" in options:
            try:
                parse_scale(options["adapter_scale"], "--adapter-scale")
            except ValueError as error:
                raise UsageError(str(error)) from error
            os.environ[SCALE] = options["adapter_scale"]
        if "whisper" in options:
            os.environ[WHISPER] = options["whisper"]
        if "new_languages" in options:
            os.environ[NEW_LANGUAGES] = options["new_languages"]
        if "search" in options:
            if options["search"] not in SEARCHES:
                raise UsageError(
                    f"--search {options['search']!r}; allowed: {' or '.join(SEARCHES)}"
                )
            os.environ[SEARCH] = options["search"]
        if script is not None:
            run_script(script, arguments)
            return
        file = find_module(module)
    except UsageError as error:
        sys.stderr.write(f"espnet_blora.run: error: {error}\n{USAGE.splitlines()[0]}\n")
        sys.exit(2)
    try:
        if module == INFERENCE and decoded_by_us(arguments):
            return
        if plugin.needs_plugin(module, arguments):
            os.environ[PROGRAM] = module
            plugin.register()
        run_module(module, file, arguments)
    except (ValueError, OSError) as error:
        message = users_mistake(error)
        if message is None or wants_traceback():
            raise
        sys.stderr.write(f"espnet_blora: error: {message}\n({DEBUG}=1 shows where it arose)\n")
        sys.exit(1)


if __name__ == "__mp_main__":
    plugin.register_worker()

if __name__ == "__main__":
    main()
