"""Right and wrong answers to "Monte Carlo dropout", for the tests that the grading is fair."""

BATCHED = {
    "only-dropout": """
@contextmanager
def only_dropout(model):
    before = {module: module.training for module in model.modules()}
    model.eval()
    drops = (
        nn.modules.dropout._DropoutNd,
        nn.RNNBase,
        nn.MultiheadAttention,
        nn.TransformerEncoderLayer,
    )
    for module in model.modules():
        if isinstance(module, drops):
            module.training = True
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training
""",
    "sample": """
def sample(model, x, times):
    with only_dropout(model):
        with torch.no_grad():
            scores = model(x.repeat(times, *[1] * (x.dim() - 1)))
    return torch.softmax(scores, dim=1).view(times, len(x), -1)
""",
    "numbers-of-doubt": """
def predictive_entropy(p):
    mean = p.mean(dim=0)
    return -torch.xlogy(mean, mean).sum(dim=1)


def mutual_information(p):
    return predictive_entropy(p) + torch.xlogy(p, p).sum(dim=2).mean(dim=0)
""",
    "reestimate": """
def reestimate(model, batches):
    was = [(m, m.training, getattr(m, "momentum", None)) for m in model.modules()]
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        with torch.no_grad():
            for x in batches:
                model(x)
    finally:
        for m, training, momentum in was:
            m.training = training
            if m in norms:
                m.momentum = momentum
""",
}
A_CLASS = {
    "only-dropout": """
class only_dropout:
    DROPS = (
        "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout",
        "RNN", "LSTM", "GRU", "MultiheadAttention", "TransformerEncoderLayer",
    )

    def __init__(self, model):
        self.model = model

    def __enter__(self):
        self.modes = {}
        for name, module in self.model.named_modules():
            self.modes[name] = module.training
            module.training = type(module).__name__ in self.DROPS
        return self.model

    def __exit__(self, *error):
        for name, module in self.model.named_modules():
            module.training = self.modes[name]
        return False
""",
    "sample": """
import copy


@torch.inference_mode()
def sample(model, x, times):
    own = copy.deepcopy(model)
    with only_dropout(own):
        draws = []
        for _ in range(times):
            scores = own(x)
            draws.append(torch.exp(scores - scores.logsumexp(-1, keepdim=True)))
    return torch.stack(draws, 0).clone()
""",
    "numbers-of-doubt": """
def h(p):
    return -(p * p.clamp_min(1e-12).log()).sum(-1)


def predictive_entropy(p):
    return h(sum(p) / len(p))


def mutual_information(p):
    # The mean distance (Kullback and Leibler) from each draw to the mean.
    mean = p.mean(0, keepdim=True)
    ratio = torch.where(p > 0, p / mean.clamp_min(1e-12), torch.ones_like(p))
    return (p * ratio.log()).sum(-1).mean(0)
""",
    "reestimate": """
class Averages:
    def __init__(self, norm):
        self.norm, self.means, self.variances = norm, [], []

    def __call__(self, norm, inputs):
        x = inputs[0].transpose(0, 1).flatten(1)
        self.means.append(x.mean(1))
        self.variances.append(x.var(1))


def reestimate(model, batches):
    norms = [m for m in model.modules() if "BatchNorm" in type(m).__name__]
    notes = [Averages(norm) for norm in norms]
    hooks = [norm.register_forward_pre_hook(note) for norm, note in zip(norms, notes)]
    modes = [m.training for m in model.modules()]
    try:
        model.eval()
        for norm in norms:
            norm.train()
        with torch.no_grad():
            for x in batches:
                model(x)
    finally:
        for hook in hooks:
            hook.remove()
        for m, mode in zip(model.modules(), modes):
            m.training = mode
    for note in notes:
        note.norm.running_mean.copy_(torch.stack(note.means).mean(0))
        note.norm.running_var.copy_(torch.stack(note.variances).mean(0))
""",
}
ON_A_COPY = {
    **BATCHED,
    "sample": """
def sample(model, x, times):
    out = None
    for k in range(times):
        with only_dropout(model):
            y = torch.nn.Softmax(dim=1)(model(x)).detach()
        if out is None:
            out = torch.empty(times, *y.shape, dtype=y.dtype)
        out[k] = y
    return out
""",
    "numbers-of-doubt": """
def predictive_entropy(p):
    return torch.stack([
        -sum(q * math.log(q) for q in row.tolist() if q > 0) * torch.ones(()) for row in p.mean(0)
    ])


def mutual_information(p):
    each = torch.stack([predictive_entropy(draw[None]) for draw in p])
    return predictive_entropy(p) - each.mean(0)
""",
    "reestimate": """
import copy


def reestimate(model, batches):
    other = copy.deepcopy(model).eval()
    count = 0
    norms = {n: m for n, m in other.named_modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))}
    sums = {n: [0.0, 0.0] for n in norms}
    for m in norms.values():
        m.train()
        m.momentum = 1.0
    for x in batches:
        count += 1
        other(x)
        for n, m in norms.items():
            sums[n][0] = sums[n][0] + m.running_mean.double()
            sums[n][1] = sums[n][1] + m.running_var.double()
    for n, (mean, variance) in sums.items():
        target = model.get_submodule(n)
        target.running_mean.copy_(mean / count)
        target.running_var.copy_(variance / count)
""",
}
RIGHT = {"batched": BATCHED, "a class": A_CLASS, "on a copy": ON_A_COPY}


def changed(name, old, new):
    """A cell of the first right answer with one thing in it changed."""
    assert old in BATCHED[name]
    return {name: BATCHED[name].replace(old, new)}


# What is wrong, and the points that each task loses for it.
WRONG = {
    "the usual recipe, nn.Dropout alone": (
        changed("only-dropout", "isinstance(module, drops)", "isinstance(module, nn.Dropout)"),
        {"test-only-dropout": 2},
    ),
    "dropout layers, and no others that drop": (
        changed("only-dropout", "isinstance(module, drops)", "isinstance(module, drops[0])"),
        {"test-only-dropout": 1},
    ),
    "model.train()": (
        changed("only-dropout", "model.eval()", "model.train()"),
        {"test-only-dropout": 1, "test-sample": 2},
    ),
    "batch norm left as it was": (
        changed("only-dropout", "    model.eval()\n", ""),
        {"test-only-dropout": 1, "test-sample": 2},
    ),
    "no finally": (
        changed(
            "only-dropout",
            """    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training
""",
            """    yield
    for module, training in before.items():
        module.training = training
""",
        ),
        {"test-only-dropout": 0.5},
    ),
    "eval() at the end": (
        changed("only-dropout", "module.training = training", "module.eval()"),
        {"test-only-dropout": 1, "test-sample": 1},
    ),
    "the mode of the root for all": (
        changed(
            "only-dropout",
            """        for module, training in before.items():
            module.training = training
""",
            "        model.train(before[model])\n",
        ),
        {"test-only-dropout": 1, "test-sample": 1},
    ),
    "one draw, repeated": (
        {
            "sample": """
def sample(model, x, times):
    with only_dropout(model), torch.no_grad():
        return model(x).softmax(1).expand(times, -1, -1)
"""
        },
        {"test-sample": 3},
    ),
    "draws of no model": (
        {
            "sample": """
def sample(model, x, times):
    return torch.randn(times, len(x), CLASSES).softmax(2)
"""
        },
        {"test-sample": 2},
    ),
    "softmax over the draws": (
        {
            "sample": """
def sample(model, x, times):
    with only_dropout(model), torch.no_grad():
        return torch.stack([model(x) for _ in range(times)]).softmax(0)
"""
        },
        {"test-sample": 2},
    ),
    "with a graph": (
        changed("sample", "torch.no_grad()", "torch.enable_grad()"),
        {"test-sample": 1},
    ),
    "in eval mode, no dropout": (
        {
            "sample": """
def sample(model, x, times):
    modes = [m.training for m in model.modules()]
    model.eval()
    with torch.no_grad():
        out = torch.stack([model(x).softmax(1) for _ in range(times)])
    for m, mode in zip(model.modules(), modes):
        m.training = mode
    return out
"""
        },
        {"test-sample": 3},
    ),
    "the mean of the entropies": (
        changed(
            "numbers-of-doubt",
            "return -torch.xlogy(mean, mean).sum(dim=1)",
            "return -torch.xlogy(p, p).sum(dim=2).mean(dim=0)",
        ),
        {"test-numbers": 2.5},
    ),
    "log of 0": (
        {
            "numbers-of-doubt": BATCHED["numbers-of-doubt"]
            .replace("torch.xlogy(mean, mean)", "(mean * mean.log())")
            .replace("torch.xlogy(p, p)", "(p * p.log())")
        },
        {"test-numbers": 0.5},
    ),
    "bits instead of nats": (
        {
            "numbers-of-doubt": BATCHED["numbers-of-doubt"]
            .replace(".sum(dim=1)", ".sum(dim=1) / math.log(2)")
            .replace(".mean(dim=0)\n", ".mean(dim=0) / math.log(2)\n")
            .replace("mean = p.mean(dim=0) / math.log(2)", "mean = p.mean(dim=0)")
        },
        {"test-numbers": 2.5},
    ),
    "update_bn as it is": (
        {
            "reestimate": """
from torch.optim.swa_utils import update_bn


def reestimate(model, batches):
    update_bn(batches, model)
"""
        },
        {"test-reestimate": 2.5},
    ),
    "momentum 0.1, so the last batches count most": (
        changed("reestimate", "        norm.momentum = None\n", ""),
        {"test-reestimate": 2},
    ),
    "no reset": (
        changed("reestimate", "        norm.reset_running_stats()\n", ""),
        {"test-reestimate": 2},
    ),
    "the whole model in train mode": (
        changed("reestimate", "    model.eval()\n", "    model.train()\n"),
        {"test-reestimate": 1},
    ),
    "momentum is not put back": (
        changed("reestimate", "m.momentum = momentum", "pass"),
        {"test-reestimate": 1.5},
    ),
    "all rows in one batch": (
        changed(
            "reestimate",
            "for x in batches:\n                model(x)",
            "model(torch.cat(list(batches)))",
        ),
        {"test-reestimate": 2},
    ),
    "BatchNorm1d alone": (
        changed("reestimate", "nn.modules.batchnorm._BatchNorm", "nn.BatchNorm1d"),
        {"test-reestimate": 1},
    ),
}
# Right on the public checks alone.
HARD_CODED = {
    "only-dropout": """
@contextmanager
def only_dropout(model):
    model[1].train()
    yield
    model[1].eval()
""",
    "sample": "def sample(model, x, times):\n    return torch.full((times, len(x), CLASSES), 1 / CLASSES)",
    "numbers-of-doubt": """
def predictive_entropy(p):
    return torch.full((p.shape[1],), math.log(CLASSES))


def mutual_information(p):
    return torch.zeros(p.shape[1])
""",
    "reestimate": """
def reestimate(model, batches):
    model[0].running_mean = batches[0].mean(dim=0)
""",
}
