"""Comparing functions fairly: in turn, many rounds, medians."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from statistics import median


def ratios(
    contestants: Mapping[str, Callable[[], object]], *, rounds: int, baseline: str
) -> dict[str, float]:
    """Time each function once a round, all in turn; return median ratios to the baseline.

    A ratio is taken within a round, and every other round goes backwards: a machine that is slow
    for a while is so for all.
    """
    over_baseline: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for contestant in contestants.values():
        contestant()  # warm up
    for _ in range(rounds):
        times = {}
        for name in order:
            gc.collect()
            start = time.perf_counter()
            contestants[name]()
            times[name] = time.perf_counter() - start
        for name, taken in times.items():
            over_baseline[name].append(taken / times[baseline])
        order.reverse()
    return {name: median(found) for name, found in over_baseline.items()}


def report(
    title: str, baseline: str, measured: dict[str, float], limits: dict[str, float]
) -> list[str]:
    """Print the ratios; return what is over its limit."""
    print(f"\n{title} (1.00 is: {baseline})")
    over = []
    for name, ratio in measured.items():
        limit = limits.get(name)
        print(f"  {ratio:6.2f}  {name}" + (f"  (at most {limit})" if limit else ""))
        if limit and ratio > limit:
            over.append(f"{title}: {name} {ratio:.2f}, at most {limit}")
    return over
