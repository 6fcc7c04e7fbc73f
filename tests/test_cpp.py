"""The program in C++, where there is a compiler: what it says of right and wrong models."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.cpp_extension import include_paths, library_paths

from utils.models import digits_mlp

SOURCE = Path(__file__).parent.parent / "examples" / "cpp" / "score.cpp"
X = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
COMPILER = shutil.which("g++") or shutil.which("clang++")

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler on this machine"),
    pytest.mark.filterwarnings("ignore"),
]


class Golden(nn.Module):
    def __init__(self, x, answers):
        super().__init__()
        self.register_buffer("x", x)
        self.register_buffer("answers", answers)

    def forward(self):
        return self.answers


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    built = tmp_path_factory.mktemp("cpp") / "score"
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    command = [COMPILER, "-std=c++20", abi, str(SOURCE), "-o", str(built)]
    command += [f"-I{path}" for path in include_paths()]
    for path in library_paths():
        command += [f"-L{path}", f"-Wl,-rpath,{path}"]
    done = subprocess.run([*command, "-ltorch", "-ltorch_cpu", "-lc10"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return built


def run(program, folder, model, answers):
    torch.jit.save(model, str(folder / "model.pt"))
    torch.jit.save(torch.jit.script(Golden(X, answers)), str(folder / "golden.pt"))
    command = [program, folder / "model.pt", folder / "golden.pt"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, (done.stdout + done.stderr).strip()


def test_a_script_answers_as_in_python_also_when_it_was_saved_in_train_mode(
    program, settled_mlp, tmp_path
):
    expected = settled_mlp.eval()(X).detach()
    for mode in (True, False):
        said = run(program, tmp_path, torch.jit.script(settled_mlp.train(mode)), expected)
        assert said == (0, "as in eval mode")


def test_a_trace_from_train_mode_stops_at_the_first_check(program, settled_mlp, tmp_path):
    trace = torch.jit.trace(settled_mlp.train(), X, check_trace=False)
    assert run(program, tmp_path, trace, settled_mlp.eval()(X).detach()) == (1, "two calls differ")


def test_statistics_of_the_batch_stop_at_the_second(program, settled_mlp, tmp_path):
    settled_mlp.train()[4].p = 0.0
    trace = torch.jit.trace(settled_mlp, X, check_trace=False)
    said = run(program, tmp_path, trace, settled_mlp.eval()(X).detach())
    assert said == (1, "a row depends on its batch")


def test_other_weights_stop_at_the_third(program, settled_mlp, tmp_path):
    expected = settled_mlp.eval()(X).detach()
    said = run(program, tmp_path, torch.jit.script(digits_mlp().eval()), expected)
    assert said == (1, "other answers than in Python")
