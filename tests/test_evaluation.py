"""Whole-set numbers against one pass over everything, scikit-learn and torchmetrics."""

import functools
import warnings
from collections import namedtuple
from fractions import Fraction

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torchmetrics
from sklearn.metrics import f1_score, log_loss, roc_auc_score
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
)
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassRecall,
)

from utils.batches import run_on_batch, to_device, unpack_batch
from utils.data import digits
from utils.evaluation import evaluate
from utils.models import digits_mlp
from utils.scores import HELD_ELEMENTS, Scores, gather

X, Y = digits().test.tensors


@pytest.fixture
def net():
    torch.manual_seed(0)
    model = digits_mlp()
    for part in X.split(60):
        model(part)  # statistics of its own, so that the modes differ
    return model


@pytest.fixture
def scores(net):
    with torch.no_grad():
        out = net.eval()(X)
    net.train()
    return out


def loader(size=64):
    return DataLoader(TensorDataset(X, Y), size)


@pytest.mark.parametrize("size", [1, 7, 64, 359, 360])
def test_loss_and_accuracy_do_not_depend_on_the_batch_size(net, scores, size):
    result = evaluate(net, loader(size), loss=F.cross_entropy)
    assert list(result) == ["loss", "accuracy"]
    probabilities = scores.double().softmax(1).numpy()
    assert result["loss"] == pytest.approx(log_loss(Y, probabilities), rel=1e-5)
    assert result["accuracy"] == pytest.approx((scores.argmax(1) == Y).float().mean().item())
    assert all(type(value) is float for value in result.values())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reductions_of_a_loss_module_mean_the_same(net, scores, reduction):
    result = evaluate(net, loader(), loss=nn.CrossEntropyLoss(reduction=reduction))
    assert result["loss"] == pytest.approx(F.cross_entropy(scores, Y).item(), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_weights_and_ignored_targets_count_as_over_the_whole_set(net, scores, smoothing):
    target = torch.where(torch.arange(len(Y)) % 3 == 0, -1, Y)
    loss = nn.CrossEntropyLoss(
        torch.linspace(0.1, 3, 10), ignore_index=-1, label_smoothing=smoothing
    )
    batches = list(zip(X.split(50), target.split(50)))
    result = evaluate(net, batches, loss=loss)
    assert result["loss"] == pytest.approx(loss(scores, target).item(), rel=1e-5)
    kept = target >= 0
    right = (scores.argmax(1) == target)[kept].float().mean().item()
    assert result["accuracy"] == pytest.approx(right)


@pytest.mark.parametrize(
    "options",
    [{"weight": torch.linspace(0.1, 3, 10)}, {"ignore_index": 3}, {"label_smoothing": 0.1}],
    ids=lambda options: next(iter(options)),
)
def test_a_function_with_options_counts_as_its_module(net, scores, options):
    loss = functools.partial(F.cross_entropy, **options)
    result = evaluate(net, list(zip(X.split(50), Y.split(50))), loss=loss)
    assert result["loss"] == pytest.approx(loss(scores, Y).item(), rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_targets_of_eight_bits_are_classes_too(net, scores, weighted):
    loss = nn.CrossEntropyLoss(torch.linspace(0.1, 3, 10) if weighted else None)
    result = evaluate(net, list(zip(X.split(50), Y.byte().split(50))), loss=loss)
    assert result["loss"] == pytest.approx(loss(scores, Y).item(), rel=1e-5)


def test_a_batch_of_ignored_targets_only_does_not_count(net, scores):
    target = Y.clone()
    target[:60] = -100
    big = [(X[:60].repeat(200, 1, 1, 1), target[:60].repeat(200)), (X[60:], target[60:])]
    assert HELD_ELEMENTS < 60 * 200 * 10  # scored on its own
    result = evaluate(net, big, loss=nn.CrossEntropyLoss())
    assert result["loss"] == pytest.approx(F.cross_entropy(scores[60:], Y[60:]).item(), rel=1e-5)


def test_torchmetrics_objects_agree_with_scikit_learn_and_are_not_touched(net, scores):
    f1 = MulticlassF1Score(10)
    f1.update(scores[:5], Y[:5])
    mine = f1.compute()
    result = evaluate(net, loader(), metrics={"f1": f1, "auroc": MulticlassAUROC(10)})
    assert list(result) == ["f1", "auroc"]
    assert result["f1"] == pytest.approx(f1_score(Y, scores.argmax(1), average="macro"), rel=1e-5)
    auroc = roc_auc_score(Y, scores.double().softmax(1), multi_class="ovr")
    assert result["auroc"] == pytest.approx(auroc, rel=1e-4)
    assert f1.compute() == mine


def test_names_of_metrics(net):
    def top_two(output, target):
        return (output.topk(2).indices == target[:, None]).any(1)

    collection = MetricCollection([MulticlassAccuracy(10), MulticlassF1Score(10)], prefix="val_")
    assert list(evaluate(net, loader(), metrics=collection)) == [
        "val_MulticlassAccuracy",
        "val_MulticlassF1Score",
    ]
    assert list(evaluate(net, loader(), metrics=[top_two, MulticlassRecall(10)])) == [
        "top_two",
        "MulticlassRecall",
    ]
    assert list(evaluate(net, loader(), metrics=top_two, loss=F.cross_entropy)) == [
        "loss",
        "top_two",
    ]
    each = evaluate(net, loader(), metrics={"recall": MulticlassRecall(10, average=None)})
    assert list(each) == [f"recall[{i}]" for i in range(10)]


def test_functions_may_return_a_mean_or_one_value_a_sample(net, scores):
    expected = (scores.argmax(1) == Y).float().mean().item()
    result = evaluate(
        net,
        loader(77),
        metrics={
            "mean": lambda o, t: (o.argmax(1) == t).float().mean(),
            "each": lambda o, t: o.argmax(1) == t,
        },
    )
    assert result == {"mean": pytest.approx(expected), "each": pytest.approx(expected)}


def test_modes_random_state_and_gradients_are_left_alone(net):
    net[2].eval()
    modes = [module.training for module in net.modules()]
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    state = torch.get_rng_state()
    plain = DataLoader(TensorDataset(X, Y), 64)
    list(plain)
    assert not torch.equal(torch.get_rng_state(), state)  # iterating draws
    torch.set_rng_state(state)
    evaluate(net, plain, loss=F.cross_entropy)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(buffers[name], buffer) for name, buffer in net.named_buffers())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_forward_pass_is_in_eval_and_inference_mode():
    class Spy(nn.Module):
        def forward(self, x):
            self.seen = self.training, torch.is_inference_mode_enabled()
            return x

    spy = Spy()
    evaluate(spy, [(torch.eye(3), torch.arange(3))])
    assert spy.seen == (False, True) and spy.training


def test_a_loss_that_listens_to_the_mode_is_in_eval_mode_too():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.9)

        def forward(self, output, target):
            return self.drop(output).mean()

    loss = Noisy()
    assert evaluate(nn.Identity(), [(torch.ones(4, 3), torch.arange(4))], loss=loss)["loss"] == 1
    assert loss.training


@pytest.mark.parametrize(
    "batch",
    [
        (X, Y),
        [X, Y],
        {"image": X, "label": Y},
        {"x": X, "targets": Y},
    ],
    ids=["tuple", "list", "dict", "other keys"],
)
def test_kinds_of_batches(net, scores, batch):
    assert evaluate(net, [batch], loss=F.cross_entropy)["loss"] == pytest.approx(
        F.cross_entropy(scores, Y).item(), rel=1e-5
    )


class TwoInputs(nn.Module):
    def forward(self, a, b):
        return a - b


@pytest.mark.parametrize(
    ("batch", "unpack"),
    [
        ({"a": 3 * torch.eye(4), "b": torch.eye(4), "y": torch.arange(4)}, None),
        (((3 * torch.eye(4), torch.eye(4)), torch.arange(4)), None),
        ((torch.arange(4), torch.eye(4), 3 * torch.eye(4)), lambda b: ((b[2], b[1]), b[0])),
        (
            (torch.arange(4), torch.eye(4), 3 * torch.eye(4)),
            lambda b: ({"b": b[1], "a": b[2]}, b[0]),
        ),
    ],
    ids=["dict", "nested tuple", "unpack to tuple", "unpack to dict"],
)
def test_several_inputs(batch, unpack):
    assert evaluate(TwoInputs(), [batch], unpack=unpack) == {"accuracy": 1.0}


@pytest.mark.parametrize(
    "batch",
    [(X, Y, Y), X, {"image": X}, {"label": Y}, {"x": X, "label": Y, "target": Y}, (X,), "ab c"],
)
def test_batches_that_cannot_be_split_say_what_they_are(net, batch):
    with pytest.raises(ValueError, match="expected .* or a function for unpack"):
        evaluate(net, [batch])
    assert net.training


def test_named_tuples_and_other_values_survive_the_move():
    Pair = namedtuple("Pair", "a b")
    moved = to_device({"pair": Pair(X, "name"), "list": [Y, None]}, torch.device("meta"))
    assert moved["pair"].a.is_meta and moved["pair"].b == "name"
    assert moved["list"][0].is_meta and moved["list"][1] is None
    assert unpack_batch(Pair(1, 2)) == (1, 2)
    assert run_on_batch(nn.Identity(), 3) == 3


def test_segmentation_outputs_are_scored_by_the_pixel():
    output = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    target = output.argmax(1)
    target[0] = (target[0] + 1) % 3
    batches = [(output[:2], target[:2]), (output[2:], target[2:])]
    assert evaluate(nn.Identity(), batches)["accuracy"] == pytest.approx(4 / 5)


def test_outputs_that_are_no_class_scores_have_no_accuracy():
    x = torch.rand(6, 1)
    assert list(evaluate(nn.Identity(), [(x, x)], loss=F.mse_loss)) == ["loss"]
    with pytest.raises(ValueError, match="there is nothing to measure"):
        evaluate(nn.Identity(), [(x, torch.ones(6, dtype=torch.int64))])
    with pytest.raises(ValueError, match="there is nothing to measure"):
        evaluate(nn.Identity(), [(x, x)], metrics=[])


def test_batches_of_unlike_shapes_are_not_joined():
    batches = [(torch.ones(2, 3, n), torch.zeros(2, n, dtype=torch.int64)) for n in (4, 5, 5)]
    assert evaluate(nn.Identity(), batches)["accuracy"] == 1.0


def test_accuracy_is_of_all_batches_or_not_at_all():
    batches = [(torch.ones(4, n, 4), torch.zeros(4, n, dtype=torch.int64)) for n in (6, 4, 6)]
    assert list(evaluate(nn.Identity(), batches, loss=lambda o, t: o.sum())) == ["loss"]


def test_a_loss_over_the_batch_is_called_on_each_batch():
    def contrastive(output, target):
        z = F.normalize(output, dim=1)
        return F.cross_entropy(5 * z @ z.T, torch.arange(len(z)))

    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    batches = [(part, torch.zeros(8)) for part in x.split(8)]
    expected = torch.stack([contrastive(*batch) for batch in batches]).mean().item()
    assert evaluate(nn.Identity(), batches, loss=contrastive)["loss"] == pytest.approx(expected)


def test_a_function_may_return_sum_and_count(scores, net):
    weight = torch.linspace(0.1, 3, 10)

    def weighted(output, target):
        return F.cross_entropy(output, target, weight, reduction="sum"), weight[target].sum()

    batches = list(zip(X.split(50), Y.split(50)))
    expected = F.cross_entropy(scores, Y, weight).item()
    assert evaluate(net, batches, loss=weighted)["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_class_weights_mean_the_same_under_each_reduction(net, scores, reduction):
    weight = torch.linspace(0.1, 3, 10)
    target = torch.where(torch.arange(len(Y)) % 3 == 0, -100, Y)
    loss = nn.CrossEntropyLoss(weight, reduction=reduction)
    expected = F.cross_entropy(scores, target, weight).item()
    result = evaluate(net, list(zip(X.split(50), target.split(50))), loss=loss)
    assert result["loss"] == pytest.approx(expected, rel=1e-5)


def test_half_precision_does_not_overflow():
    output = torch.tensor([[5.0, 0, 0]]).repeat(1000, 1).half()
    target = torch.ones(1000, dtype=torch.int64)
    expected = F.cross_entropy(output.float(), target).item()
    result = evaluate(nn.Identity(), [(output, target)] * 40, loss=nn.CrossEntropyLoss())
    assert result["loss"] == pytest.approx(expected, rel=1e-3)


def test_only_ignored_targets_and_nan_outputs_are_errors():
    ignored = torch.full((3,), -100)
    with pytest.raises(ValueError, match="loss has nothing to average: every target is ignored or"):
        evaluate(nn.Identity(), [(torch.eye(3), ignored)], loss=nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match="output has 9 values that are nan or infinite on batch 0"):
        evaluate(nn.Identity(), [(torch.eye(3) * float("nan"), torch.arange(3))])


def test_a_data_loader_with_several_inputs():
    class Pairs(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return (3 * torch.eye(4)[i], torch.eye(4)[i]), i

    assert evaluate(TwoInputs(), DataLoader(Pairs(), 3)) == {"accuracy": 1.0}


def test_outputs_may_be_dicts():
    class Answer(nn.Module):
        def forward(self, x):
            return {"logits": x}

    loss = evaluate(
        Answer(),
        [(torch.eye(3), torch.arange(3))] * 2,
        loss=lambda o, t: F.cross_entropy(o["logits"], t),
    )["loss"]
    assert loss == pytest.approx(F.cross_entropy(torch.eye(3), torch.arange(3)).item())


def test_memory_does_not_grow_with_the_data():
    class Counts(nn.Module):
        most = 0

        def forward(self, output, target):
            Counts.most = max(Counts.most, len(output))
            return output.sum(1)

    evaluate(
        nn.Identity(), ((torch.ones(64, 16), torch.zeros(64)) for _ in range(1000)), loss=Counts()
    )
    assert Counts.most * 16 < 2 * HELD_ELEMENTS


@pytest.mark.parametrize("empty", [[], DataLoader(TensorDataset(X[:0], Y[:0]))])
def test_an_empty_loader_is_an_error(net, empty):
    with pytest.raises(
        ValueError, match="loader yielded no samples, so there is nothing to average"
    ):
        evaluate(net, empty, loss=F.cross_entropy)
    assert net.training


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_loss_of_a_masked_class_says_so(smoothing):
    scores = torch.tensor([[1.0, -torch.inf, 2.0]])
    loss = nn.CrossEntropyLoss(label_smoothing=smoothing)
    with pytest.raises(ValueError, match="output there holds minus infinity"):
        evaluate(nn.Identity(), [(scores, torch.tensor([0 if smoothing else 1]))], loss=loss)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_the_batch(net, bad):
    spoilt = X[:10].clone()
    spoilt[3] = bad
    with pytest.raises(ValueError, match=r"loss is nan on batch 2 .*output there is not finite"):
        evaluate(net, [(X, Y), (X, Y), (spoilt, Y[:10]), (X, Y)], loss=F.cross_entropy)
    assert net.training


@pytest.mark.parametrize("device", ["gpu", "cuda:77", "cpu:x", 3.5])
def test_an_unknown_device_is_named(net, device):
    with pytest.raises(ValueError, match="device is .*; expected one that torch knows"):
        evaluate(net, loader(), device=device)
    assert net.training


def test_a_device_that_is_not_the_models_is_an_error(net):
    with pytest.raises(ValueError, match="device is 'meta' but the model is on cpu"):
        evaluate(net, loader(), device="meta")


def test_a_metric_that_fails_is_named(net):
    def broken(output, target):
        raise KeyError("oops")

    for metrics in ({"mine": broken}, {"mine": MulticlassAccuracy(3)}):
        with pytest.raises(RuntimeError, match="metric 'mine' failed"):
            evaluate(net, loader(), metrics=metrics)
        assert net.training


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"metrics": {"a": 3}}, TypeError, r"metrics\['a'\] is a int"),
        ({"metrics": [F.mse_loss, F.mse_loss]}, ValueError, "two entries of one name"),
        ({"metrics": {"loss": F.mse_loss}}, ValueError, "an entry called 'loss'"),
        ({"loss": 3}, TypeError, "loss is a int; expected a function or a module"),
        ({"loss": nn.MSELoss}, TypeError, "loss is the class MSELoss; expected an instance"),
        ({"metrics": "accuracy"}, TypeError, "metrics is the string 'accuracy'"),
        (
            {"metrics": {"a": MetricCollection([MulticlassAccuracy(10)])}},
            TypeError,
            r"metrics\['a'\] is a collection",
        ),
    ],
)
def test_bad_arguments_are_named(net, arguments, error, message):
    with pytest.raises(error, match=message):
        evaluate(net, loader(), **arguments)


def test_a_model_that_is_none_is_named():
    with pytest.raises(TypeError, match="model is a function; expected a torch.nn.Module"):
        evaluate(lambda x: x, loader())


def test_progress_goes_to_stderr_and_changes_nothing(net, capsys):
    assert evaluate(net, loader(), progress=True) == evaluate(net, loader())
    captured = capsys.readouterr()
    assert "evaluate" in captured.err and not captured.out


SHARDS = {0: slice(0, 100), 1: slice(100, 100), 2: slice(100, 360)}


def scored(x, y, share, metrics=None):
    scores = Scores(metrics, F.cross_entropy, torch.device("cpu"))
    for rows in share:
        scores.add(x[rows], y[rows])
    scores.score_held()
    return scores


@pytest.mark.parametrize("order", [1, -1])
def test_a_thousand_shards_lose_no_digit(order):
    """Partial sums as a thousand processes send them, against exact fractions of the same."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(5000, 3, generator=generator), torch.arange(5000) % 3
    x *= 10 ** torch.linspace(-6, 2, 5000).unsqueeze(1)  # losses of very different sizes
    shards = [scored(x, y, [slice(i, i + 3), slice(i + 3, i + 5)]) for i in range(0, 5000, 5)]
    parts = [shard.known() for shard in shards][::order]
    whole = Scores(None, F.cross_entropy, torch.device("cpu"))
    whole.merge(parts)
    exact = sum(Fraction(part["means"]["loss"][0]) for part in parts) / 5000
    assert len(parts) == 1000 and whole.result()["loss"] == float(exact)
    right = (x.argmax(1) == y).sum().item()
    assert whole.result()["accuracy"] == right / 5000


def test_a_process_that_ends_is_an_error_of_the_others(monkeypatch):
    def closed(everyone, mine):
        raise RuntimeError("Connection closed by peer [127.0.0.1]:1234")

    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather_object", closed)
    scores = scored(torch.randn(4, 3), torch.arange(4) % 3, [slice(0, 4)])
    with pytest.raises(RuntimeError, match="another one has ended, or has not come") as raised:
        gather(scores, None)
    assert "closed by peer" in str(raised.value.__cause__)


def in_a_process(rank, file, results):
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=3)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    x, y = digits().test.tensors
    shard = SHARDS[rank]
    batches = list(zip(x[shard].split(33), y[shard].split(33))) if rank != 1 else []
    metrics = {
        "f1": MulticlassF1Score(10),
        "auroc": MulticlassAUROC(10),
        "confusion": MulticlassConfusionMatrix(10),
    }
    outcome = {"plain": evaluate(model, batches, loss=F.cross_entropy)}
    outcome["metrics"] = evaluate(model, batches, metrics=metrics)
    try:
        evaluate(model, [])
    except ValueError as error:
        outcome["empty"] = str(error)
    try:
        evaluate(model, [(x[0, 0, 0, 0], y)] if rank == 2 else batches, loss=F.cross_entropy)
    except Exception as error:
        outcome["failure"] = f"{type(error).__name__}: {error}"
    try:
        evaluate(model, batches, device="nowhere" if rank == 0 else None)
    except Exception as error:
        outcome["argument"] = f"{type(error).__name__}: {error}"
    wrapped = DistributedDataParallel(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64)))
    wrapped.module[1].running_mean.fill_(rank)
    gaps = torch.arange(24.0).reshape(12, 2)[:, 0] + 100 * rank
    wrapped.module.register_buffer("gaps", gaps)
    gaps_seen = {"gaps": lambda out, y: (wrapped.module.gaps.sum(), 1)}
    outcome["gaps"] = evaluate(wrapped, [(x[:1], y[:1])], metrics=gaps_seen)["gaps"]
    outcome["wrapped"] = evaluate(wrapped, batches, metrics={"sum": lambda out, y: out.sum(1)})
    assert wrapped.module[1].running_mean[0] == rank and wrapped.module.gaps[0] == 100 * rank
    compiled = torch.compile(wrapped, backend="eager")
    outcome["compiled"] = evaluate(compiled, batches, metrics={"sum": lambda out, y: out.sum(1)})
    dataset = TensorDataset(X, Y)
    loader = DataLoader(dataset, 50, sampler=range(rank, len(Y), 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome["sampler"] = evaluate(model, loader, loss=F.cross_entropy)
    loader = DataLoader(dataset, 50, sampler=range(rank, len(Y), 4))
    with pytest.warns(UserWarning, match="sampler leaves out"):
        evaluate(model, loader, loss=F.cross_entropy)
    results[rank] = outcome
    dist.destroy_process_group()


def test_processes_with_unequal_and_empty_shards_all_get_the_whole_sets_numbers(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    metrics = {
        "f1": MulticlassF1Score(10),
        "auroc": MulticlassAUROC(10),
        "confusion": MulticlassConfusionMatrix(10),
    }
    alone = {
        "plain": evaluate(model, [(X, Y)], loss=F.cross_entropy),
        "metrics": evaluate(model, [(X, Y)], metrics=metrics),
    }
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(in_a_process, (str(tmp_path / "meeting"), results), nprocs=3)
        results = dict(results)
    for rank in range(3):
        for kind, expected in alone.items():
            assert results[rank][kind] == pytest.approx(expected, rel=1e-5), (rank, kind)
        assert "loader yielded no samples" in results[rank]["empty"]
        assert results[rank]["gaps"] == 132.0  # of rank 0
        assert results[rank]["wrapped"] == results[0]["wrapped"] == results[rank]["compiled"]
        assert results[rank]["sampler"] == pytest.approx(alone["plain"], rel=1e-5)
    assert "ValueError: device is 'nowhere'" in results[2]["argument"]
    assert results[0]["argument"].startswith("ValueError: device is 'nowhere'")
    assert "failed in process 2" in results[0]["failure"]
    assert "failed in process" not in results[2]["failure"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"drop_last": True}, "leaves out the last 2 of 10 samples"),
        ({"sampler": SubsetRandomSampler(range(6))}, "sampler leaves out 4 of 10"),
        ({"sampler": RandomSampler(range(10), replacement=True)}, "some more than once"),
        ({"sampler": DistributedSampler(range(10), 3, 0)}, "repeats 2 of 10 samples"),
        ({"sampler": DistributedSampler(range(10), 3, 0, drop_last=True)}, "leaves out 1 of 10"),
        (
            {"batch_sampler": BatchSampler(DistributedSampler(range(10), 3, 0), 4, False)},
            "repeats 2",
        ),
        ({"batch_sampler": BatchSampler(range(10), 4, True)}, "leaves out the last 2 of 10"),
        ({"shuffle": True}, None),
    ],
)
def test_a_loader_that_leaves_out_or_repeats_is_said(options, said):
    data = TensorDataset(torch.randn(10, 3), torch.arange(10) % 3)
    loader = DataLoader(
        data, **({} if "batch_sampler" in options else {"batch_size": 4}), **options
    )
    if said is None:
        evaluate(nn.Identity(), loader, loss=nn.CrossEntropyLoss())
        return
    with pytest.warns(UserWarning, match=said):
        evaluate(nn.Identity(), loader, loss=nn.CrossEntropyLoss())


@pytest.mark.parametrize("loss", [nn.MSELoss(), F.mse_loss, nn.L1Loss(reduction="sum")])
def test_shapes_that_would_broadcast_are_named(loss):
    batches = [(torch.randn(4, 1), torch.randn(4))]
    with pytest.raises(ValueError, match=r"batch 0 .*\(4, 1\) and target \(4,\)"):
        evaluate(nn.Identity(), batches, loss=loss)
    with pytest.raises(RuntimeError, match=r"metric 'gap' failed: ValueError.*\(4, 1\)"):
        evaluate(nn.Identity(), batches, metrics={"gap": lambda o, t: (o - t).abs()})


@pytest.mark.parametrize("metric", ["default", "torchmetrics", "function"])
def test_an_output_that_is_not_finite_is_refused_by_every_metric(metric):
    inputs = torch.randn(37, 3)
    inputs[20] = float("nan")
    loader = DataLoader(TensorDataset(inputs, torch.arange(37) % 3), batch_size=8)
    metrics = {
        "default": None,
        "torchmetrics": torchmetrics.Accuracy("multiclass", num_classes=3),
        "function": {"size": lambda output, target: output.abs().mean(1)},
    }[metric]
    with pytest.raises(ValueError, match="nan or infinite on batch 2"):
        evaluate(nn.Identity(), loader, metrics=metrics)


def test_masked_scores_are_no_fault():
    scores = torch.tensor([[0.0, float("-inf"), 1.0], [2.0, 0.0, float("-inf")]])
    found = evaluate(nn.Identity(), [(scores, torch.tensor([2, 0]))], loss=nn.CrossEntropyLoss())
    assert found["accuracy"] == 1 and found["loss"] > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_class_weights_in_half_precision(dtype, reduction):
    torch.manual_seed(0)
    scores, target = torch.randn(5000, 3).to(dtype), torch.arange(5000) % 3
    weight = torch.tensor([1.0, 8.0, 5.0])
    loss = nn.CrossEntropyLoss(weight=weight.to(dtype), reduction=reduction)
    batches = list(zip(scores.split(32), target.split(32), strict=True))
    found = evaluate(nn.Identity(), batches, loss=loss)["loss"]
    exact = F.cross_entropy(scores.double(), target, weight=weight.double()).item()
    assert found == pytest.approx(exact, rel=1e-4)
    assert loss.weight.dtype == dtype


def test_ignored_targets_of_the_function_do_not_count():
    scores, target = torch.randn(12, 3), torch.tensor([0, 1, 2, -100] * 3)
    whole = F.cross_entropy(scores, target).item()
    for size in (1, 4, 5):
        batches = list(zip(scores.split(size), target.split(size), strict=True))
        found = evaluate(nn.Identity(), batches, loss=F.cross_entropy)["loss"]
        assert found == pytest.approx(whole, rel=1e-6)


def test_what_the_model_keeps_may_be_trained_with_where_that_is_asked_for():
    class Keeps(nn.Linear):
        kept = None

        def forward(self, x):
            if self.kept is None:
                self.kept = torch.ones(len(x), 1) * 2
            return super().forward(x) * self.kept[: len(x)]

    batches = [(torch.randn(4, 3), torch.arange(4) % 2)]
    for inference_mode in (True, False):
        model = Keeps(3, 2)
        evaluate(model, batches, inference_mode=inference_mode)
        if inference_mode:
            with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
                model(batches[0][0]).sum().backward()
        else:
            model(batches[0][0]).sum().backward()
