"""A program for the launcher: it spawns a worker, as ESPnet does, and reports what both know."""

import multiprocessing
import os
import sys


def known(where: str) -> None:
    from espnet2.layers.create_adapter import create_adapter_fn_table
    from espnet2.tasks.asr import model_choices

    from espnet_blora.plugin.settings import Settings

    settings = Settings.current()
    print(
        f"{where}: {' '.join(sorted(create_adapter_fn_table))}; "
        f"{model_choices.classes['espnet'].__name__}; {settings.whisper} {settings.adapter_scale} "
        f"{','.join(settings.new_languages)}",
        flush=True,
    )


def main() -> int:
    known("parent")
    worker = multiprocessing.get_context("spawn").Process(target=known, args=("worker",))
    worker.start()
    worker.join()
    print("argv:", os.path.basename(sys.argv[0]), *sys.argv[1:])
    return worker.exitcode or int(sys.argv[1])
