"""The recorder around the loops of other libraries, where they are installed.

See reference/requirements-frameworks.txt; what is not installed is skipped.
"""

import logging

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from utils.recorder import record

pytestmark = pytest.mark.filterwarnings("ignore")
loss_of = nn.CrossEntropyLoss()


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4)
    )


def loader():
    data = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(data, torch.arange(32) % 4), 8)


def kinds(recording):
    return [finding.kind for finding in recording.findings]


@pytest.mark.parametrize("wrong", [False, True])
def test_lightning(wrong):
    lightning = pytest.importorskip("lightning")
    for name in ("lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = net()

        def training_step(self, batch, index):
            return loss_of(self.net(batch[0]), batch[1])

        def validation_step(self, batch, index):
            if wrong:
                self.train()
            loss_of(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Model()
    with record(model) as recording:
        trainer.fit(model, loader(), loader())
    assert kinds(recording) == (["evaluated-in-train-mode"] if wrong else [])
    if wrong:
        assert recording.findings[0].where.function == "validation_step"


@pytest.mark.parametrize("wrong", [False, True])
def test_ignite(wrong):
    engine = pytest.importorskip("ignite.engine")
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    trainer = engine.create_supervised_trainer(model, optimizer, loss_of)
    evaluator = engine.create_supervised_evaluator(model)
    if wrong:
        evaluator = engine.Engine(lambda _, batch: model(batch[0]))
    with record(model) as recording:
        trainer.add_event_handler(engine.Events.EPOCH_COMPLETED, lambda _: evaluator.run(loader()))
        trainer.run(loader(), max_epochs=2)
    assert kinds(recording) == (["evaluated-in-train-mode", "graph-never-used"] if wrong else [])


@pytest.mark.parametrize("wrong", [False, True])
def test_accelerate(wrong):
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with record(model) as recording:
        prepared, optimizer, batches = accelerator.prepare(model, optimizer, loader())
        for _ in range(2):
            if not wrong:
                prepared.train()
            for inputs, target in batches:
                optimizer.zero_grad()
                accelerator.backward(loss_of(prepared(inputs), target))
                optimizer.step()
            prepared.eval()
            with torch.no_grad():
                for inputs, _ in batches:
                    prepared(inputs)
    assert kinds(recording) == (["trained-in-eval-mode"] if wrong else [])


@pytest.mark.parametrize("wrong", [False, True])
def test_transformers(wrong, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=2,
    )
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)
    data = [
        {"input_ids": torch.arange(6) + i % 9, "labels": torch.tensor(i % 2)} for i in range(16)
    ]

    class Trainer(transformers.Trainer):
        def compute_loss(self, model, *args, **kwargs):
            if wrong:
                model.eval()
            return super().compute_loss(model, *args, **kwargs)

    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=2,
        eval_strategy="epoch",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=data, eval_dataset=data)
    with record(model) as recording:
        trainer.train()
    assert kinds(recording) == (["trained-in-eval-mode"] if wrong else [])
