"""PyTorch's messages: what the page quotes is what PyTorch says, each provoked."""

import io
import re
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import grad
from torch.nn import functional as F

PAGE = Path(__file__).parent.parent / "reference" / "messages.md"
QUOTED = [
    message
    for message, why in re.findall(
        r"^\| `(.+?)` \| (.*?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    if "*GPU" not in why
]


def inference_tensor():
    with torch.inference_mode():
        return torch.ones(2)


def attribute_named_train():
    layer = nn.Linear(1, 1)
    layer.train = True
    nn.Sequential(layer).eval()


def program():
    return torch.export.export(nn.Linear(1, 1), (torch.ones(1, 1),)).module()


def export_to_onnx():
    pytest.importorskip("onnxscript")
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train()
    torch.onnx.export(model, (torch.ones(2, 2),), io.BytesIO(), dynamo=True, verbose=False)


def fuse():
    from torch.ao.quantization import fuse_modules

    fuse_modules(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1).eval()), ["0", "1"])


def fold():
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    fuse_conv_bn_eval(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))


def prepare():
    from torch.ao.quantization import prepare_qat

    prepare_qat(nn.Sequential(nn.Linear(1, 1)).eval())


def to_onednn():
    from torch.utils.mkldnn import to_mkldnn

    to_mkldnn(nn.BatchNorm2d(1))


def incomplete_checkpoint():
    layer = nn.BatchNorm1d(2)
    state = layer.state_dict()
    del state["running_mean"]
    layer.load_state_dict(state)


def backward_twice():
    weight = torch.ones(2, requires_grad=True)
    loss = weight.square().sum()
    loss.backward()
    loss.backward()


def unpool():
    pooled, indices = F.max_pool2d(torch.rand(1, 1, 4, 4), 2, return_indices=True)
    torch.use_deterministic_algorithms(True)
    try:
        F.max_unpool2d(pooled, indices, 2)
    finally:
        torch.use_deterministic_algorithms(False)


def captured():
    layer = nn.BatchNorm1d(2)
    grad(lambda x: layer(x).sum())(torch.randn(4, 2))


def normalised_by_learnt_statistics():
    mean = torch.zeros(2, requires_grad=True)
    F.batch_norm(torch.randn(4, 2, requires_grad=True), mean, torch.ones(2))


def encoder_layer(**options):
    return nn.TransformerEncoderLayer(4, 2, **options)


PROVOKED = [
    lambda: nn.Linear(1, 1).train(None),
    attribute_named_train,
    lambda: program().eval(),
    lambda: program().train(),
    lambda: torch.jit.freeze(torch.jit.script(nn.Dropout())),
    lambda: torch.jit.trace(nn.Dropout(), torch.ones(20)),
    export_to_onnx,
    fuse,
    fold,
    prepare,
    to_onednn,
    lambda: nn.BatchNorm1d(2)(torch.ones(1, 2)),
    lambda: nn.InstanceNorm1d(2)(torch.ones(1, 2, 1)),
    lambda: F.batch_norm(torch.ones(4, 2), None, None),
    lambda: nn.BatchNorm1d(4)(torch.ones(5, 3)),
    lambda: nn.BatchNorm1d(2)(torch.ones(1, 2, 3, 3)),
    lambda: nn.BatchNorm2d(2)(torch.ones(1, 2)),
    lambda: nn.InstanceNorm1d(4, affine=True)(torch.ones(2, 3, 5)),
    lambda: nn.InstanceNorm1d(4)(torch.ones(2, 3, 5)),
    lambda: torch.vmap(nn.BatchNorm1d(2))(torch.randn(3, 4, 2)),
    captured,
    normalised_by_learnt_statistics,
    incomplete_checkpoint,
    lambda: nn.Dropout(1.5),
    lambda: nn.LSTM(1, 1, 2, dropout=2),
    lambda: nn.LSTM(1, 1, dropout=0.5),
    lambda: nn.Linear(1, 1).requires_grad_(False)(torch.ones(1, 1)).sum().backward(),
    backward_twice,
    lambda: inference_tensor() * torch.ones(2, requires_grad=True),
    lambda: inference_tensor().add_(1),
    lambda: inference_tensor().requires_grad_(),
    lambda: inference_tensor()._version,
    lambda: sum(p.numel() for p in nn.LazyLinear(2).parameters()),
    lambda: nn.TransformerEncoder(encoder_layer(), 1),
    lambda: encoder_layer(batch_first=True)(torch.ones(1, 3, 4), is_causal=True),
    unpool,
]


@pytest.mark.parametrize(
    ("quoted", "provoke"), list(zip(QUOTED, PROVOKED, strict=True)), ids=QUOTED
)
def test_pytorch_says_what_the_page_quotes(quoted, provoke):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            provoke()
            said = []
        except Exception as error:
            said = [str(error)]
    said += [str(warning.message) for warning in warned]
    pattern = ".*".join(map(re.escape, quoted.split("…")))
    assert any(re.search(pattern, text.replace("\n", " ")) for text in said), said


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the message is cuDNN's")
def test_cudnn_says_what_the_page_quotes():
    rnn = nn.LSTM(1, 1).cuda().eval()
    (quoted,) = re.findall(r"^\| `(.*?)` \| \*GPU:\*", PAGE.read_text(), re.MULTILINE)
    with pytest.raises(RuntimeError, match=re.escape(quoted)):
        rnn(torch.ones(1, 1, 1, device="cuda"))[0].sum().backward()
