"""A program for the launcher: asr_train on one of two gloo ranks, or on two that it spawns.

    python3 -m espnet_blora.run ... -m tests.integration.ddp_probe rank|spawn FOLDER ARGUMENTS...

Each rank saves its parameters after training, and what its first adapter layer gives in training
for the same input at the same step: different noise on each rank, or not.
"""

import multiprocessing
import sys
from pathlib import Path


def watch(folder: Path) -> None:
    """Let the trainer save what this rank ends with."""
    import torch
    from espnet2.train.trainer import Trainer

    from espnet_blora.adapters import get_adapter

    run = Trainer.run.__func__

    def watched(cls, *args, **kwargs):
        run(cls, *args, **kwargs)
        model, adapter = kwargs["model"], get_adapter(kwargs["model"])
        parameters = {name: value.detach().clone() for name, value in model.named_parameters()}
        layer = next(iter(adapter.layers.values()))
        model.train()
        adapter.state.context.step = 1000
        noisy = layer(torch.ones(1, 4, layer.in_features))
        rank = torch.distributed.get_rank()
        torch.save(
            {"parameters": parameters, "noisy": noisy.detach(), "step": adapter.step},
            folder / f"rank{rank}.pth",
        )

    Trainer.run = classmethod(watched)


def worker(args, folder: Path) -> None:
    from espnet2.tasks.asr import ASRTask

    watch(folder)
    ASRTask.main_worker(args)


def spawn(args, folder: Path) -> int:
    """Start ranks as ESPnet's `main` does for GPUs, here on the CPU."""
    from argparse import Namespace

    from espnet2 import __version__
    from espnet2.train.distributed_utils import free_port

    port = free_port()
    processes = []
    for rank in range(2):
        own = Namespace(**vars(args))
        own.version, own.distributed, own.dist_world_size = __version__, True, 2
        own.dist_rank, own.dist_master_addr, own.dist_master_port = rank, "localhost", port
        process = multiprocessing.get_context("spawn").Process(target=worker, args=(own, folder))
        process.start()
        processes.append(process)
    for process in processes:
        process.join()
    return max(abs(process.exitcode) for process in processes)


def main() -> int:
    from espnet2.tasks.asr import ASRTask

    way, folder, arguments = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    if way == "spawn":
        return spawn(ASRTask.get_parser().parse_args(arguments), folder)
    watch(folder)
    ASRTask.main(cmd=arguments)
    return 0
