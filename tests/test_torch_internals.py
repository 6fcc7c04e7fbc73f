"""Private names of PyTorch: what each says, against public ones, and what is done without it."""

import importlib

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from utils import torch_internals as internals


def test_base_classes_are_those_of_the_public_layers():
    for base, layers in (
        (internals.BATCH_NORMS, (nn.BatchNorm1d, nn.BatchNorm3d, nn.SyncBatchNorm)),
        (internals.INSTANCE_NORMS, (nn.InstanceNorm1d, nn.InstanceNorm2d)),
        (internals.DROPOUTS, (nn.Dropout, nn.Dropout2d, nn.AlphaDropout)),
    ):
        assert all(issubclass(layer, base) for layer in layers)
        assert not issubclass(nn.Linear, base)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_module_holds_is_what_its_public_methods_say():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2, bias=False))
    assert dict(net[0].named_parameters()) == internals.own_parameters(net[0])
    assert dict(net[0].named_buffers()) == internals.own_buffers(net[0])
    assert dict(net.named_children()) == internals.own_modules(net)
    assert internals.own_parameters(net[1])["bias"] is None
    scripted = torch.jit.script(net)
    assert internals.own_modules(scripted) == {} and list(scripted.children())


def test_versions_count_changes_in_place_and_inference_tensors_have_none():
    weight = torch.zeros(2)
    before = internals.version(weight)
    weight.add_(1)
    assert internals.version(weight) == before + 1
    with torch.inference_mode():
        assert internals.version(torch.ones(1)) == 0


def test_graph_bytes_are_what_autograd_packs():
    packed = []
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    x = torch.randn(32, 8)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        model(x)
    weights = {w.data_ptr() for w in model.parameters()}
    kept = {
        t.data_ptr(): t.untyped_storage().nbytes() for t in packed if t.data_ptr() not in weights
    }
    assert internals.graph_bytes([model(x)], model.parameters()) == sum(kept.values()) > 0


def test_a_backward_pass_that_runs_a_checkpoint_again_is_seen():
    seen = []

    def part(x):
        seen.append(internals.in_backward_pass())
        return x.exp()

    x = torch.ones(2, requires_grad=True)
    checkpoint(part, x, use_reentrant=False).sum().backward()
    assert seen == [False, True]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_transforms_and_tracing_are_seen():
    seen = []

    def part(x):
        seen.append((internals.has_wrapped_tensors(), internals.is_jit_tracing()))
        return x * 2

    part(torch.ones(2))
    torch.func.vmap(part)(torch.ones(2))
    torch.jit.trace(part, torch.ones(2), check_trace=False)
    assert seen == [(False, False), (True, False), (False, True)]


def test_memory_is_the_same_for_a_view_and_is_not_kept_alive():
    x = torch.ones(1000)
    place, memory = internals.weak_memory(x)
    assert internals.weak_memory(x.detach())[0] == place and not memory.expired()
    del x
    assert memory.expired()
    assert (
        internals.weak_memory("text") is None
        and internals.storage(torch.ones(2).to_sparse()) is None
    )


def test_a_global_hook_leaves_nothing_behind():
    from torch.nn.modules import module

    before = dict(vars(module))["_global_forward_hooks_with_kwargs"].copy()
    handle = module.register_module_forward_hook(lambda *args: None, with_kwargs=True)
    internals.forget_forward_hook(handle)
    assert module._global_forward_hooks_with_kwargs == before


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (torch._C, "_current_graph_task_id"),
        (torch._C, "_len_torch_dispatch_stack"),
        (torch._C, "_functorch"),
        (torch._C, "_is_tracing"),
    ],
)
def test_without_a_private_name_the_recorder_still_works(monkeypatch, owner, name):
    monkeypatch.delattr(owner, name)
    fresh = importlib.util.module_from_spec(importlib.util.find_spec("utils.torch_internals"))
    fresh.__loader__.exec_module(fresh)
    assert fresh.has_wrapped_tensors() is False or fresh.has_wrapped_tensors() is True
    assert fresh.in_backward_pass() is False and fresh.is_jit_tracing() is False


def test_a_name_that_has_moved_gives_what_serves_instead():
    assert internals._private("torch.nn.modules.batchnorm", "_Gone", instead=(nn.BatchNorm1d,)) == (
        nn.BatchNorm1d,
    )
    assert internals._private("torch._no_such_module", "x", instead=None) is None
