"""What the chapters say of modes, gradient switches, optimisers and loops, over many models."""

import copy
import pickle

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from properties.registry import flags, floats, seeds, sizes, states
from utils.audit import audit
from utils.evaluation import evaluate
from utils.modes import evaluating, keep_in_eval, mode_of

LEAVES = (
    lambda: nn.Linear(4, 4),
    lambda: nn.BatchNorm1d(4),
    lambda: nn.Dropout(0.5),
    lambda: nn.ReLU(),
    lambda: nn.RReLU(),
    lambda: nn.LayerNorm(4),
    lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.3)),
)
GRADIENTS = {
    "on": torch.enable_grad,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
}


@st.composite
def networks(draw, most=5):
    """A chain of layers, some nested, on rows of four numbers, in float64."""
    torch.manual_seed(draw(seeds))
    layers = [draw(st.sampled_from(LEAVES))() for _ in range(draw(sizes(1, most)))]
    if draw(flags):
        layers = [nn.Sequential(*layers), nn.Linear(4, 4)]
    return nn.Sequential(*layers).double()


@st.composite
def mixed_networks(draw):
    """As above, each module in a mode of its own."""
    net = draw(networks())
    for module in net.modules():
        module.training = draw(flags)
    return net


rows = st.integers(3, 8).flatmap(
    lambda count: seeds.map(
        lambda seed: torch.randn(
            count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
        )
    )
)


def modes(net):
    return [module.training for module in net.modules()]


def state(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def same_state(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@states(
    "01_two_modes",
    "sets one flag, `training = False`, on a module and on every module registered inside it",
    over="nested networks in any mixture of modes",
)
@given(mixed_networks())
def test_eval_sets_every_flag(net):
    net.eval()
    assert not any(modes(net))
    net.train()
    assert all(modes(net))


@states(
    "01_two_modes",
    "no weight was moved or rescaled, no statistic was computed.",
    over="nested networks in any mixture of modes",
)
@given(mixed_networks())
def test_switching_moves_no_tensor(net):
    before, modules = state(net), list(net.modules())
    net.eval()
    net.train()
    assert same_state(before, net.state_dict()) and modules == list(net.modules())


@states(
    "01_two_modes",
    "and loading weights changes none, even weights that come from a model in eval mode.",
    over="nested networks in any mixture of modes",
)
@given(mixed_networks())
def test_loading_changes_no_flag(net):
    before, other = modes(net), copy.deepcopy(net).eval()
    net.load_state_dict(other.state_dict())
    assert modes(net) == before


@states(
    "01_two_modes",
    "Eval mode and gradient mode are two separate switches.",
    over="nested networks in any mixture of modes, gradients on and off",
)
@given(mixed_networks(), rows, flags)
def test_a_graph_follows_the_gradient_switch(net, x, grad):
    net.append(nn.Linear(4, 2).double())
    with torch.set_grad_enabled(grad):
        assert net(x).requires_grad == grad


@states(
    "01_two_modes",
    "writes the flags back at the end of its block, after an error too.",
    over="nested networks in any mixture of modes, with and without an error",
)
@given(mixed_networks(), flags)
def test_evaluating_restores_each_flag(net, fails):
    before = modes(net)
    try:
        with evaluating(net):
            assert mode_of(net) == "eval"
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert modes(net) == before


@states(
    "01_two_modes",
    "They move; the mode has no say in it.",
    over="SGD, Adam, AdamW, RMSprop and Adagrad, in either mode",
)
@given(networks(), rows, flags, st.sampled_from(["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"]))
def test_a_step_asks_for_no_mode(net, x, training, name):
    net.insert(0, nn.Linear(4, 4).double())
    optimizer = getattr(torch.optim, name)(net.parameters(), lr=0.1)
    net(x).square().sum().backward()
    net[0].weight.grad = torch.ones_like(net[0].weight)
    before = net[0].weight.clone()
    net.train(training)
    optimizer.step()
    assert not torch.equal(before, net[0].weight)


@states(
    "01_two_modes",
    "Adam's, like most, passes over a parameter whose `.grad` is `None`",
    over="SGD, Adam, AdamW and RMSprop, after none or some steps",
)
@given(networks(), rows, st.integers(0, 2), st.sampled_from(["SGD", "Adam", "AdamW", "RMSprop"]))
def test_no_gradient_no_step(net, x, steps, name):
    optimizer = getattr(torch.optim, name)([*net.parameters(), nn.Parameter(x)], lr=0.1)
    for _ in range(steps):
        (net(x).square().sum() + optimizer.param_groups[0]["params"][-1].sum()).backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    before = state(net)
    optimizer.step()
    assert same_state(before, net.state_dict())


@states(
    "01_two_modes",
    "`keep_in_eval` makes a part of the model deaf to `train()` and `eval()`",
    over="nested networks, any sequence of switches, copies and pickles",
)
@given(networks(), st.lists(st.sampled_from(["train", "eval", "copy", "pickle"]), max_size=6))
def test_a_kept_part_stays_in_eval_mode(net, moves):
    whole = nn.Sequential(keep_in_eval(net), nn.Dropout())
    for move in moves:
        if move == "copy":
            whole = copy.deepcopy(whole)
        elif move == "pickle":
            whole = pickle.loads(pickle.dumps(whole))
        else:
            getattr(whole, move)()
        assert not any(modes(whole[0]))
        assert move not in ("train", "eval") or whole[1].training == (move == "train")


@states(
    "05_three_switches",
    "the gradient switch decides *whether there is a graph and whether anything is kept*.",
    over="nested networks in any mixture of modes, under each gradient switch",
)
@given(mixed_networks(), rows, st.sampled_from(sorted(GRADIENTS)))
def test_nothing_is_kept_without_gradients(net, x, switch):
    net.insert(0, nn.Linear(4, 4).double())
    kept = []
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t),
        GRADIENTS[switch](),
    ):
        out = net(x)
    assert out.requires_grad == bool(kept) == (switch == "on")


@states(
    "05_three_switches",
    "so it may happen after the mode is restored.",
    over="nested networks in any mixture of modes",
)
@given(mixed_networks(), rows)
def test_backward_follows_the_forward_pass(net, x):
    net.insert(0, nn.Linear(4, 4).double())
    with evaluating(net):
        loss = net(x).square().sum()
        inside = torch.autograd.grad(loss, net[0].weight, retain_graph=True)[0]
    assert torch.equal(inside, torch.autograd.grad(loss, net[0].weight)[0])


@states(
    "05_three_switches",
    "changed in place, or asked for a gradient after the block.",
    over="shapes, float32, float64 and bfloat16, eleven operations",
)
@given(
    st.lists(sizes(1, 4), min_size=1, max_size=3),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_an_inference_tensor_fails_where_something_is_saved(shape, dtype):
    with torch.inference_mode():
        special = torch.ones(shape, dtype=dtype)
    w = torch.ones(shape, dtype=dtype, requires_grad=True)
    goes_through = (
        lambda: special + w,
        lambda: w - special,
        lambda: torch.cat([special, w]),
        lambda: special.clone() * w,
        lambda: special.sum(),
        lambda: special * 2,
    )
    fails = (
        lambda: special * w,
        lambda: w / special,
        lambda: special.add_(1),
        lambda: special.requires_grad_(),
        lambda: special.square_(),
    )
    for attempt in goes_through:
        attempt()
    for attempt in fails:
        try:
            attempt()
        except RuntimeError as error:
            assert "nference" in str(error)
        else:
            raise AssertionError("no error")


@states(
    "05_three_switches",
    "In eval mode each score of such a network depends on its own image only",
    over="nested networks, batches and positions",
)
@given(networks(), rows)
def test_gradients_of_a_row_stay_in_the_row(net, x):
    x = x.clone().requires_grad_()
    gradient = torch.autograd.grad(net.eval()(x)[0].sum(), x)[0]
    assert not gradient[1:].any()


@states(
    "06_mode_bugs",
    "The model, its modes, its buffers and the random state are left as they were.",
    over="nested networks in any mixture of modes",
)
@given(mixed_networks(), rows)
def test_audit_leaves_the_model(net, x):
    before, flags_before, random = state(net), modes(net), torch.get_rng_state()
    audit(net, x)
    assert same_state(before, net.state_dict()) and modes(net) == flags_before
    assert torch.equal(random, torch.get_rng_state())


@states(
    "08_fine_tuning",
    "`requires_grad_(False)` and no gradient left over froze parameters against SGD; the mode froze batch norm's statistics.",
    over="frozen parameters or not, either mode",
)
@given(rows, flags, flags)
def test_each_freeze_needs_its_own_line(x, frozen, training):
    norm = nn.BatchNorm1d(4).double().requires_grad_(not frozen).train(training)
    head = nn.Linear(4, 1).double()
    optimizer = torch.optim.SGD([*norm.parameters(), *head.parameters()], lr=0.1)
    before = state(norm)
    head(norm(x)).square().sum().backward()
    optimizer.step()
    after = norm.state_dict()
    assert torch.equal(before["bias"], after["bias"]) == frozen
    assert torch.equal(before["running_mean"], after["running_mean"]) == (not training)


@states(
    "10_evaluation_loop",
    "up to rounding and where each sample has one label, a whole number, and none is ignored, "
    "and is tested",
    over="nested networks in any mixture of modes, batch sizes, float32 and float64",
)
@given(mixed_networks(), st.integers(1, 9), floats)
def test_evaluate_does_not_depend_on_the_batch_size(net, size, dtype):
    torch.manual_seed(0)
    net, x, y = net.to(dtype), torch.randn(13, 4, dtype=dtype), torch.arange(13) % 4
    before = modes(net)
    loss = nn.CrossEntropyLoss()
    found = evaluate(net, list(zip(x.split(size), y.split(size), strict=True)), loss=loss)
    with evaluating(net), torch.no_grad():
        scores = net(x)
    close = torch.tensor(found["loss"], dtype=dtype), loss(scores, y)
    torch.testing.assert_close(*close)
    assert modes(net) == before
