"""Right and wrong answers to "Predict both modes", for the tests that the grading is fair."""

BY_HAND = {
    "dropout": """
dropout = {
    "eval": 6,
    "train": 7.5,
    "two": 15,
    "zeros": 0.6,
    "function": 7.5,
    "channel": [9, 0],
}
""",
    "norm": """
norm = {
    "mean": 4.88,
    "var": 4.53,
    "average": 5,
    "eval": 5,
    "train": -1,
    "counted": 5,
    "single": "error",
}
""",
    "layers": """
layers = {
    "listen": [8, 6, 4, 1],
    "random": [4, 8],
    "move": [1],
}
""",
    "flags": """
flags = {
    "modules": 6,
    "in train": 4,
    "batches": 2,
    "differ": True,
    "graph": True,
    "step": True,
    "reach": False,
}
""",
}
MEASURED = {
    "dropout": """
x = torch.full((10000,), VALUE)
one, both = nn.Dropout(P), nn.Sequential(nn.Dropout(P), nn.Dropout(Q))

class Model(nn.Module):
    def forward(self, x):
        return F.dropout(x, P)

out = nn.Dropout2d(P)(torch.ones(8, 4, SIDE, SIDE))
dropout = {}
dropout["eval"] = one.eval()(x).mean()
dropout["train"] = one.train()(x).max()
dropout["two"] = both(x).max()
dropout["zeros"] = (both(torch.ones(1_000_000)) == 0).double().mean()
dropout["function"] = Model().eval()(x).max()
dropout["channel"] = set((out == 0).sum((2, 3)).flatten().tolist())
""",
    "norm": """
def column(values):
    return torch.tensor(values).view(-1, 1)

norm = {}
layer = nn.BatchNorm1d(1, momentum=MOMENTUM)
for _ in range(K):
    layer(column([LEVEL, LEVEL - 2, LEVEL + 2]))
norm["mean"] = layer.running_mean.clone()
layer.reset_running_stats()
layer(column(BATCH))
norm["var"] = layer.running_var
layer = nn.BatchNorm1d(1, momentum=None)
for m in MEANS:
    layer(column([m, m, m + 1, m - 1]))
norm["average"] = layer.running_mean
layer = nn.BatchNorm1d(1)
layer.load_state_dict({
    "weight": torch.tensor([WEIGHT]),
    "bias": torch.tensor([BIAS]),
    "running_mean": torch.tensor([REMEMBERED_MEAN]),
    "running_var": torch.tensor([REMEMBERED_VAR]),
    "num_batches_tracked": torch.tensor(0),
})
norm["eval"] = layer.eval()(column([X]))
norm["train"] = layer.train()(column([X, X + 100]))[0]
layer = nn.BatchNorm1d(1)
for _ in range(K):
    layer(column(BATCH))
layer.eval()
for _ in range(4):
    layer(column(BATCH))
layer.train()
with torch.no_grad():
    for _ in range(UNSEEN):
        layer(column(BATCH))
norm["counted"] = layer.num_batches_tracked.clone()
try:
    layer(column([X]))
    norm["single"] = "zero"
except ValueError:
    norm["single"] = "error"
""",
    "layers": """
rows = torch.randn(16, 8)
listen, random, move = set(), set(), set()
for i, text in enumerate(LAYERS):
    layer = eval(text)
    if (layer.train()(rows) - layer(rows)).abs().max() > 0:
        random.add(i)
    if "num_batches_tracked" in str(list(layer.state_dict())):
        move.add(i)
    if (layer.train()(rows) - layer.eval()(rows)).abs().max() > 1e-3:
        listen.add(i)
layers = {"listen": listen, "random": random, "move": move}
""",
    "flags": """
net, batch = make_net(), torch.randn(64, 4)
for call in CALLS:
    exec(call)
modes = [m.training for m in net.modules()]
flags = {
    "modules": torch.tensor(len(modes)),
    "in train": torch.tensor(modes).sum(),
    "batches": net[1].num_batches_tracked.clone(),
    "differ": bool((net(batch) != net(batch)).any()),
}
new = make_net().eval()
flags["graph"] = new(batch).requires_grad
weight = new[0].weight.clone()
new(batch).sum().backward()
torch.optim.SGD(new.parameters(), lr=1.0).step()
flags["step"] = (weight != new[0].weight).any()
new.training = True
flags["reach"] = (new(batch) != new(batch)).any()
""",
}
FORMULAS = {
    "dropout": """
kept = 1 - P
dropout["eval"] = VALUE
dropout["train"] = VALUE / kept
dropout["two"] = VALUE / kept / (1 - Q)
dropout["zeros"] = P + Q - P * Q
dropout["function"] = VALUE / kept
dropout["channel"] = (0, SIDE**2)
""".replace("kept = 1", "dropout = {}\nkept = 1"),
    "norm": """
import numpy as np

r = 0.0
for _ in range(K):
    r = r + MOMENTUM * (LEVEL - r)
norm = dict(
    mean=round(r, 2),
    var=np.float64(round(1 - MOMENTUM + MOMENTUM * np.var(BATCH, ddof=1), 2)),
    average=np.mean(MEANS),
    eval=round(BIAS + WEIGHT * (X - REMEMBERED_MEAN) / REMEMBERED_VAR ** 0.5, 2),
    train=BIAS - WEIGHT,
    counted=float(K + UNSEEN),
    single="error",
)
""",
    "layers": """
layers = {"move": [], "random": [], "listen": []}
for place, text in enumerate(LAYERS):
    untracked = "track_running_stats=False" in text
    norm_moves = "BatchNorm" in text and not untracked
    draws = "RReLU" in text and "PReLU" not in text
    draws = draws or ("Dropout" in text and "0.0" not in text and "1.0" not in text)
    if norm_moves:
        layers["move"].append(place)
    if draws:
        layers["random"].append(place)
    if norm_moves or draws or "1.0" in text:
        layers["listen"].append(place)
""",
    "flags": """
net, batch = make_net(), torch.randn(64, 4)
for call in CALLS:
    exec(call)
flags = {
    "modules": sum(1 for _ in net.modules()),
    "in train": [m.training for m in net.modules()].count(True),
    "batches": float(net[1].num_batches_tracked),
    "differ": int(any(m.training for m in net.modules() if type(m) is nn.Dropout)),
    "graph": 1,
    "step": 1,
    "reach": 0,
}
""",
}
RIGHT = {"by hand": BY_HAND, "measured": MEASURED, "formulas": FORMULAS}


def _entries(task, **entries):
    """The answers by hand, with other values in some entries."""
    return BY_HAND[task] + "".join(
        f"{task}[{key!r}] = {value!r}\n" for key, value in entries.items()
    )


# What is wrong, and the points that each task loses for it.
WRONG = {
    "eval mode scales, as in the paper": (
        {"dropout": _entries("dropout", eval=4.8, train=6.0, two=6.0, function=4.8)},
        {"test-dropout": 2},
    ),
    "eval() reaches F.dropout": (
        {"dropout": _entries("dropout", function=6.0)},
        {"test-dropout": 0.5},
    ),
    "shares of zeros add up, and pixels go one by one": (
        {"dropout": _entries("dropout", zeros=0.7, channel=list(range(10)))},
        {"test-dropout": 1},
    ),
    "momentum as an optimiser has it": (
        {"norm": _entries("norm", mean=9.92, var=0.8 + 0.2 * 18.67)},
        {"test-norm": 1},
    ),
    "the biased variance is remembered, divided by no root": (
        {"norm": _entries("norm", var=0.8 + 0.2 * 14, eval=2 * 6 / 9 + 1)},
        {"test-norm": 1},
    ),
    "train mode uses the memory, no_grad stops it": (
        {"norm": _entries("norm", train=5, counted=3, single="zero")},
        {"test-norm": 1.5},
    ),
    "all normalisations listen": (
        {"layers": _entries("layers", listen=[1, 3, 4, 5, 6, 7, 8], move=[1, 3, 5, 7])},
        {"test-layers": 1},
    ),
    "RReLU forgotten, p = 1 taken for random": (
        {"layers": _entries("layers", listen=[1, 6, 8], random=[6, 8])},
        {"test-layers": 1.5},
    ),
    "containers have no flag": (
        {"flags": BY_HAND["flags"] + 'flags["modules"], flags["in train"] = 4, 3\n'},
        {"test-flags": 1},
    ),
    "eval() stops gradients and steps": (
        {"flags": _entries("flags", graph=False, step=False)},
        {"test-flags": 0.5},
    ),
    "a flag set by hand reaches the children": (
        {"flags": _entries("flags", reach=True, batches=3)},
        {"test-flags": 1},
    ),
}
# Right on the public checks alone.
HARD_CODED = {
    "dropout": "dropout = dict(eval=1.0, train=1.0, two=1.0, zeros=0.5, function=1.0, channel=[0])",
    "norm": "norm = dict(mean=0.0, var=1.0, average=0.0, eval=0.0, train=0.0, counted=0, single='nan')",
    "layers": "layers = dict(listen=[], random=[], move=[])",
    "flags": "flags = {'modules': 1, 'in train': 1, 'batches': 0, 'differ': True, 'graph': True, 'step': True, 'reach': True}",
}
