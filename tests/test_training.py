"""`fit` against a loop written out here, and against itself after an interruption."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from utils.data import digits_loaders
from utils.evaluation import evaluate
from utils.models import digits_mlp
from utils.modes import keep_in_eval, mode_of
from utils.training import fit


def fitted(model, loaders, optimizer, **options):
    """Train with cross entropy."""
    return fit(
        model,
        loaders.train,
        loaders.validation,
        loss=F.cross_entropy,
        optimizer=optimizer,
        **options,
    )


def start(seed=0):
    torch.manual_seed(seed)
    model = digits_mlp(hidden=16)
    return model, digits_loaders(seed=seed), torch.optim.Adam(model.parameters(), lr=0.01)


def run(epochs=3, seed=0, **options):
    model, loaders, optimizer = start(seed)
    history = fitted(
        model,
        loaders,
        optimizer,
        epochs=epochs,
        **options,
    )
    return model, history


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.values(), two.values()))


def test_fit_is_the_plain_loop():
    model, loaders, optimizer = start()
    train_losses, states, val_losses = [], [], []
    for _ in range(3):
        model.train()
        total = 0
        for x, y in loaders.train:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
        train_losses.append(total / 1077)
        model.eval()
        x, y = loaders.validation.dataset.tensors
        with torch.no_grad():
            val_losses.append(F.cross_entropy(model(x), y).item())
        states.append(copy.deepcopy(model.state_dict()))
    fitted, history = run()
    assert history["train_loss"] == pytest.approx(train_losses)
    assert history["val_loss"] == pytest.approx(val_losses, rel=1e-5)
    best = val_losses.index(min(val_losses))
    assert history.best_epoch == best
    assert same(fitted.state_dict(), states[best])


def test_patience_stops_and_the_best_weights_come_back():
    # A rate so high that validation soon gets worse.
    model, loaders, _ = start()
    history = fit(
        model,
        loaders.train,
        loaders.validation,
        loss=F.cross_entropy,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.99),
        epochs=40,
        patience=3,
    )
    losses = history["val_loss"]
    assert history.stopped_early and len(history) < 40
    assert len(history) - 1 - history.best_epoch == 3
    assert losses[history.best_epoch] == min(losses)
    again = evaluate(model, loaders.validation, loss=F.cross_entropy)["loss"]
    assert again == pytest.approx(min(losses), rel=1e-6)


@pytest.mark.parametrize("scheduled", [False, True])
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(tmp_path, scheduled):
    def go(epochs, file, resume=False):
        model, loaders, optimizer = start()
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5) if scheduled else None
        torch.manual_seed(123 + resume)  # a fresh process would not have our random state
        history = fitted(
            model,
            loaders,
            optimizer,
            scheduler=scheduler,
            epochs=epochs,
            checkpoint=file,
            resume=resume,
        )
        return model.state_dict(), history

    whole, history = go(5, tmp_path / "whole.pt")
    go(2, tmp_path / "cut.pt")
    resumed, joined = go(5, tmp_path / "cut.pt", resume=True)
    assert same(whole, resumed)
    assert joined.epochs == history.epochs and joined.best_epoch == history.best_epoch


class Tempered(nn.Module):
    def __init__(self):
        super().__init__()
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def forward(self, output, target):
        return F.cross_entropy(output * self.log_temperature.exp(), target)


def test_a_loss_with_parameters_is_resumed_too(tmp_path):
    def go(epochs, file, resume=False):
        model, loaders, _ = start()
        loss = Tempered()
        optimizer = torch.optim.Adam([*model.parameters(), *loss.parameters()], lr=0.01)
        history = fit(
            model,
            loaders.train,
            loaders.validation,
            loss=loss,
            optimizer=optimizer,
            epochs=epochs,
            checkpoint=file,
            resume=resume,
        )
        return loss.state_dict(), history.epochs

    whole = go(4, tmp_path / "whole.pt")
    go(2, tmp_path / "cut.pt")
    assert go(4, tmp_path / "cut.pt", resume=True) == whole
    with pytest.raises(ValueError, match="of another optimizer"):
        run(5, checkpoint=tmp_path / "cut.pt", resume=True)


def test_the_checkpoint_loads_with_weights_only_and_holds_the_best(tmp_path):
    model, history = run(4, checkpoint=tmp_path / "deep" / "run.pt")
    state = torch.load(tmp_path / "deep" / "run.pt", weights_only=True)
    assert same(state["best_model"], model.state_dict())
    assert state["history"]["epochs"] == history.epochs
    assert list((tmp_path / "deep").iterdir()) == [tmp_path / "deep" / "run.pt"]


def test_without_resume_a_checkpoint_is_not_read(tmp_path):
    first, _ = run(2, checkpoint=tmp_path / "run.pt")
    second, history = run(2, checkpoint=tmp_path / "run.pt")
    assert len(history) == 2 and same(first.state_dict(), second.state_dict())


def test_a_finished_run_resumes_to_itself(tmp_path):
    first, _ = run(2, checkpoint=tmp_path / "run.pt")
    second, history = run(2, checkpoint=tmp_path / "run.pt", resume=True)
    assert len(history) == 2 and same(first.state_dict(), second.state_dict())


def test_a_foreign_file_is_refused(tmp_path):
    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="lacks best_model, history, optimizer"):
        run(1, checkpoint=tmp_path / "other.pt", resume=True)


def test_modes_during_and_after():
    seen = []

    class Spy(nn.Linear):
        def forward(self, x):
            seen.append(self.training)
            return super().forward(x)

    def go(prepare):
        seen.clear()
        model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), Spy(64, 10))
        prepare(model)
        modes = [module.training for module in model.modules()]
        loaders = digits_loaders(batch_size=360)
        fit(
            model,
            loaders.train,
            loaders.validation,
            loss=F.cross_entropy,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            epochs=2,
        )
        assert [module.training for module in model.modules()] == modes
        return model

    go(lambda model: model.train())
    assert seen == ([True] * 3 + [False]) * 2
    go(lambda model: model.eval())
    assert seen == ([True] * 3 + [False]) * 2
    with pytest.warns(UserWarning, match=r"mixed mode.*'1' \(BatchNorm1d\) in eval mode"):
        by_hand = go(lambda m: m[1].eval())
    for model in (by_hand, go(lambda m: keep_in_eval(m[1]))):
        assert mode_of(model) == "mixed"
        assert model[1].running_mean.abs().sum() == 0


def test_another_number_can_be_watched():
    _, history = run(4, monitor="accuracy", higher_is_better=True)
    accuracies = history["val_accuracy"]
    assert accuracies[history.best_epoch] == max(accuracies)
    assert history.best_epoch == accuracies.index(max(accuracies))


def test_validating_does_not_change_training():
    _, often = run(2)
    model, loaders, optimizer = start()
    loaders.validation.generator = None  # such a loader draws from the global state
    history = fitted(
        model,
        loaders,
        optimizer,
        epochs=2,
    )
    assert history["train_loss"] == often["train_loss"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0; expected at least 1"),
        ({"patience": 0}, "patience is 0; expected at least 1, or None"),
        ({"resume": True}, "resume is True but checkpoint is None"),
        ({"monitor": "f1"}, "monitor is 'f1'; expected one of loss, accuracy"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


def test_a_loss_that_is_not_finite_is_an_error_and_modes_are_as_they_were():
    model, loaders, optimizer = start()
    keep_in_eval(model[2])
    with torch.no_grad():
        model[5].weight.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"loss is nan on training batch 0"):
        fitted(
            model,
            loaders,
            optimizer,
            epochs=1,
        )
    assert mode_of(model) == "mixed" and not model[2].training


def test_training_loss_of_a_weighted_loss_is_over_weights():
    model, loaders, _ = start()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    loss = nn.CrossEntropyLoss(torch.linspace(0.1, 3, 10))
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    history = fit(model, loaders.train, loaders.train, loss=loss, optimizer=still, epochs=1)
    assert history["train_loss"] == pytest.approx(history["val_loss"], rel=1e-5)


def test_a_nan_is_never_the_best():
    values = iter([float("nan"), 0.5, 0.7, 0.6])
    model, loaders, optimizer = start()
    history = fit(
        model,
        loaders.train,
        [next(iter(loaders.validation))],
        loss=F.cross_entropy,
        optimizer=optimizer,
        epochs=4,
        metrics={"score": lambda output, target: torch.tensor(next(values))},
        monitor="score",
        higher_is_better=True,
    )
    assert history.best_epoch == 2


def test_more_patience_lets_a_stopped_run_go_on(tmp_path):
    def go(patience, resume):
        model, loaders, _ = start()
        return fit(
            model,
            loaders.train,
            loaders.validation,
            loss=F.cross_entropy,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.99),
            epochs=12,
            patience=patience,
            checkpoint=tmp_path / "run.pt",
            resume=resume,
        )

    stopped = len(go(1, False))
    assert stopped < 12 and len(go(12, True)) == 12


def test_a_plateau_scheduler_gets_the_number_that_is_watched():
    model, loaders, optimizer = start()
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=10)
    fitted(
        model,
        loaders,
        optimizer,
        scheduler=scheduler,
        epochs=3,
    )
    assert optimizer.param_groups[0]["lr"] < 0.01


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    run(1, checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match="monitor is 'f1', which checkpoint .* has not measured"):
        run(2, checkpoint=tmp_path / "run.pt", resume=True, monitor="f1")
    (tmp_path / "garbage.pt").write_text("no checkpoint")
    with pytest.raises(ValueError, match="cannot be read; expected a file that fit has written"):
        run(1, checkpoint=tmp_path / "garbage.pt", resume=True)
    model, loaders, optimizer = start()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(ValueError, match="scheduler is StepLR but checkpoint .* without one"):
        fitted(
            model,
            loaders,
            optimizer,
            scheduler=scheduler,
            epochs=2,
            checkpoint=tmp_path / "run.pt",
            resume=True,
        )


def test_what_cannot_train_is_named():
    model, loaders, optimizer = start()
    arguments = {"loss": F.cross_entropy, "optimizer": optimizer, "epochs": 1}
    parts = loaders.train, loaders.validation
    with pytest.raises(TypeError, match="expected a torch.nn.Module"):
        fit(lambda x: x, *parts, **arguments)
    with pytest.raises(ValueError, match="optimizer holds none of the model's parameters"):
        fit(digits_mlp(), *parts, **arguments)
    with pytest.raises(ValueError, match=r"loss returned a tensor of shape \(64,\)"):
        fit(model, *parts, **arguments | {"loss": nn.CrossEntropyLoss(reduction="none")})


def test_an_empty_training_loader_is_an_error():
    model, loaders, optimizer = start()
    with pytest.raises(ValueError, match="train_loader yielded no batches"):
        fit(model, [], loaders.validation, loss=F.cross_entropy, optimizer=optimizer, epochs=1)


def test_progress_goes_to_stderr(capsys):
    run(1, progress=True)
    assert "fit" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["another head", "another optimizer", "cut off", "no dict"])
def test_a_checkpoint_that_does_not_fit_changes_nothing(tmp_path, fault):
    def run(outputs, kind, seed, **more):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Linear(16, outputs))
        optimizer = kind(model.parameters(), lr=0.01)
        loaders = digits_loaders(batch_size=360)
        before = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
        call = partial(fit, model, loaders.train, loaders.validation, loss=F.cross_entropy, **more)
        return call, model, optimizer, before

    path = tmp_path / "run.pt"
    outputs, kind = (12, torch.optim.Adam) if fault == "another head" else (10, torch.optim.SGD)
    if fault == "cut off":
        kind = torch.optim.Adam
    call, _, optimizer, _ = run(outputs, kind, 0, checkpoint=path)
    call(optimizer=optimizer, epochs=1)
    if fault == "cut off":
        path.write_bytes(path.read_bytes()[:-200])
    if fault == "no dict":
        torch.save([1, 2], path)
    call, model, optimizer, before = run(10, torch.optim.Adam, 1, checkpoint=path, resume=True)
    with pytest.raises(ValueError, match="checkpoint .*run.pt"):
        call(optimizer=optimizer, epochs=3)
    assert all(torch.equal(a, b) for a, b in zip(before[0].values(), model.state_dict().values()))
    assert optimizer.state_dict() == before[1]
