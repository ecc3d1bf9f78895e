"""A rank of two: train every method one step under DDP, and compare what the ranks hold.

python two_ranks.py STORE RANK; prints "checked METHOD COUNT_OF_BASES" per method.
"""

import sys

import torch
from conftest import build_stack
from test_battery import OWN, bases, options, same, tensors, train, write_fisher, write_moments
from torch import distributed, nn

import espnet_blora
from espnet_blora.adapters import METHODS


def differ_from_rank_0() -> None:
    """Let this process find other singular vectors, as another machine would."""
    svd = torch.linalg.svd

    def other(matrix, **kwargs):
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(matrix.shape, generator=generator, dtype=matrix.dtype)
        return svd(matrix + noise, **kwargs)

    torch.linalg.svd = other


def main(store: str, rank: int) -> None:
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    if rank == 1:
        differ_from_rank_0()
    write_fisher(build_stack(), f"{store}.fisher{rank}")
    write_moments(build_stack(), f"{store}.moments{rank}")
    aware = {"prior": "moments", **OWN["lora_keep"]}
    for method, more in [*((method, {}) for method in METHODS), ("blora", aware)]:
        model = build_stack()
        torch.manual_seed(rank)
        adapter = espnet_blora.add_adapter(model, method, **options(method, **more))
        wrapped = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
        optimiser = torch.optim.SGD(adapter.trainable_parameters(), lr=0.1)
        adapter.follow(optimiser)
        batch = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(rank))
        train(wrapped, adapter, optimiser, [batch, batch])
        mine = {key: value.detach().clone() for key, value in tensors(adapter).items()}
        states: list = [None, None]
        distributed.all_gather_object(states, mine)
        if not same(*states):
            differing = [key for key in mine if not torch.equal(states[0][key], states[1][key])]
            raise SystemExit(f"{method}: ranks differ in {differing}")
        sys.stdout.write(f"checked {method} {len(bases(adapter))}\n")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
