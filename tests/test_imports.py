"""What an import costs: nothing heavy is loaded before it is used."""

import subprocess
import sys

import pytest

HEAVY = ("torch._dynamo", "torchmetrics", "sklearn", "matplotlib", "scipy", "torch.onnx")


def loaded_by(line):
    code = (
        f"import sys, torch; before = set(sys.modules); {line}; print(*set(sys.modules) - before)"
    )
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()


def test_the_check_can_fail():
    assert "torchmetrics" in loaded_by("import torchmetrics")


@pytest.mark.parametrize(
    "module", ["recorder", "evaluation", "audit", "modes", "training", "batch_norm", "command"]
)
def test_nothing_heavy_is_loaded(module):
    loaded = loaded_by(f"import utils.{module}")
    assert f"utils.{module}" in loaded
    assert not set(HEAVY) & set(loaded)
