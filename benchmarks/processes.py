"""`evaluate` on two processes beside one, on the same total work; and its cost by set size."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from benchmarks.interleaved import report
from utils.evaluation import evaluate

ROWS = 20_000


def model_and_rows(rows: int) -> tuple[nn.Module, TensorDataset]:
    """A network whose forward pass outweighs the loop, and random rows."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 1024), nn.BatchNorm1d(1024), nn.ReLU(), nn.Linear(1024, 10))
    return model, TensorDataset(torch.randn(rows, 64), torch.randint(10, (rows,)))


def _in_a_process(rank: int, size: int, meeting: str, seconds: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    model, rows = model_and_rows(ROWS)
    loader = DataLoader(Subset(rows, range(rank, ROWS, size)), batch_size=256)
    evaluate(model, loader)  # warm up
    taken = []
    for _ in range(5):
        dist.barrier()
        start = time.perf_counter()
        evaluate(model, loader)
        taken.append(time.perf_counter() - start)
    if rank == 0:
        Path(seconds).write_text(str(sorted(taken)[2]))
    dist.destroy_process_group()


def _seconds(size: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        meeting, seconds = Path(folder, "meeting").as_uri(), str(Path(folder, "seconds"))
        mp.spawn(_in_a_process, (size, meeting, seconds), nprocs=size)
        return float(Path(seconds).read_text())


def run() -> list[str]:
    """Compare two processes with one thread each to one; then cost a row, by set size."""
    one = "one process"
    measured = {one: 1.0, "two processes": _seconds(2) / _seconds(1)}
    over = report(f"Evaluating {ROWS:,} rows", one, measured, {"two processes": 0.75})

    torch.set_num_threads(1)
    model, sizes = nn.Linear(64, 10), (1_000, 10_000, 100_000, 1_000_000)
    each = {}
    for rows in sizes:
        data = torch.randn(rows, 64), torch.randint(10, (rows,))
        batches = list(zip(*(tensor.split(1_000) for tensor in data), strict=True))
        evaluate(model, batches[:3])
        start = time.perf_counter()
        evaluate(model, batches)
        each[f"{rows:9,} rows, cost of a row"] = (time.perf_counter() - start) / rows
    first = next(iter(each.values()))
    growth = {name: cost / first for name, cost in each.items()}
    limits = dict.fromkeys(list(growth)[1:], 1.5)
    return over + report("Cost by set size", next(iter(growth)), growth, limits)
