"""Run all benchmarks; exit with 1 where a ratio is over its limit.

Other evaluation loops take part where they are installed: see benchmarks/requirements.txt.
"""

from __future__ import annotations

import sys

from benchmarks import audit, evaluation, gradients, modes, pages, processes, recorder, serving

over = [
    *evaluation.run(),
    *modes.run(),
    *gradients.run(),
    *recorder.run(),
    *audit.run(),
    *processes.run(),
    *serving.run(),
    *pages.run(),
]
print("\n" + ("\n".join(over) or "All within their limits."))
sys.exit(1 if over else 0)
