"""Right and wrong answers to "The evaluation loop", for the tests that the grading is fair."""

CONTEXT = {
    "score": """
def score(model, loader):
    losses, hits = [], []
    for x, y in loader:
        scores = model(x)
        losses += F.cross_entropy(scores, y, reduction="none").tolist()
        hits += (scores.argmax(-1) == y).tolist()
    return sum(losses) / len(losses), sum(hits) / len(hits)
""",
    "evaluate": """
from contextlib import contextmanager

@contextmanager
def in_eval_mode(model):
    modes = {name: module.training for name, module in model.named_modules()}
    model.eval()
    try:
        yield model
    finally:
        for name, module in model.named_modules():
            module.training = modes[name]

def evaluate(model, loader):
    with torch.random.fork_rng(devices=[]), in_eval_mode(model), torch.inference_mode():
        return score(model, loader)
""",
    "f1": """
def f1(model, loader, label):
    tp = fp = fn = 0
    for x, y in loader:
        guess = model(x).argmax(1)
        tp += ((guess == label) & (y == label)).sum()
        fp += ((guess == label) & (y != label)).sum()
        fn += ((guess != label) & (y == label)).sum()
    whole = 2 * tp + fp + fn
    return (2 * tp / whole).item() if whole > 0 else 0
""",
}
COPY = {
    "score": """
def score(model, loader):
    total, n = torch.zeros(2), 0
    criterion = nn.CrossEntropyLoss()
    for x, y in loader:
        out = model(x)
        right = (out.max(dim=1).indices == y).float().mean()
        total += len(x) * torch.stack([criterion(out, y).detach(), right]).float()
        n += len(x)
    loss, accuracy = total / n
    return loss, accuracy
""",
    "evaluate": """
import copy

@torch.no_grad()
def evaluate(model, loader):
    state = torch.get_rng_state()
    try:
        return score(copy.deepcopy(model).eval(), loader)
    finally:
        torch.set_rng_state(state)
""",
    "f1": """
def f1(model, loader, label):
    confusion = torch.zeros(CLASSES, CLASSES)
    for x, y in loader:
        for guess, true in zip(model(x).argmax(1).tolist(), y.tolist()):
            confusion[true, guess] += 1
    below = confusion[label].sum() + confusion[:, label].sum()
    if below == 0:
        return 0.0
    return float(2 * confusion[label, label] / below)
""",
}
COLLECTED = {
    "score": """
def score(model, loader):
    pairs = [(model(x), y) for x, y in loader]
    outputs = torch.cat([o for o, _ in pairs]).detach()
    targets = torch.cat([t for _, t in pairs])
    loss = nn.functional.cross_entropy(outputs, targets)
    return loss.item(), float((outputs.argmax(dim=1) == targets).double().mean())
""",
    "evaluate": """
def evaluate(model, loader):
    was = [m.training for m in model.modules()]
    rng = torch.random.get_rng_state()
    grad = torch.is_grad_enabled()
    try:
        torch.set_grad_enabled(False)
        model.train(False)
        batches = list(loader)
        x, y = (torch.cat(part) for part in zip(*batches))
        return score(model, [(x, y)])
    finally:
        torch.set_grad_enabled(grad)
        torch.random.set_rng_state(rng)
        for m, mode in zip(model.modules(), was):
            m.train(mode)
""",
    "f1": """
def f1(model, loader, label):
    guesses, truths = [], []
    for x, y in loader:
        guesses.append(model(x).argmax(dim=1))
        truths.append(y)
    g, t = torch.cat(guesses) == label, torch.cat(truths) == label
    precision = (g & t).sum() / g.sum().clamp(min=1)
    recall = (g & t).sum() / t.sum().clamp(min=1)
    return 0.0 if precision + recall == 0 else (2 * precision * recall / (precision + recall)).item()
""",
}
RIGHT = {"context managers": CONTEXT, "a deep copy": COPY, "all outputs collected": COLLECTED}


def _evaluate(body):
    """An `evaluate` with this body, its random state set aside."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return f"""
def inner(model, loader):
{lines}

def evaluate(model, loader):
    with torch.random.fork_rng(devices=[]):
        return inner(model, loader)
"""


# What is wrong, and the points that each task loses for it.
WRONG = {
    "the mean of batch means": (
        {
            "score": """
def score(model, loader):
    losses, accuracies = [], []
    for x, y in loader:
        scores = model(x)
        losses.append(F.cross_entropy(scores, y).item())
        accuracies.append((scores.argmax(1) == y).double().mean().item())
    return sum(losses) / len(losses), sum(accuracies) / len(accuracies)
"""
        },
        {"test-score": 2.5},
    ),
    "divided by the number of batches": (
        {
            "score": """
def score(model, loader):
    loss = right = batches = count = 0
    for x, y in loader:
        scores = model(x)
        loss += F.cross_entropy(scores, y, reduction="sum").item()
        right += (scores.argmax(1) == y).sum().item()
        batches += 1
        count += len(y)
    return loss / batches, right / count
"""
        },
        {"test-score": 2, "test-modes": 1},
    ),
    "the mode is never set": (
        {"evaluate": _evaluate("with torch.no_grad():\n    return score(model, loader)")},
        {"test-modes": 3, "test-nothing-moves": 1},
    ),
    "no_grad is forgotten": (
        {
            "evaluate": _evaluate(
                """
modes = [(m, m.training) for m in model.modules()]
try:
    return score(model.eval(), loader)
finally:
    for m, mode in modes:
        m.training = mode
"""
            )
        },
        {"test-modes": 1},
    ),
    "left in eval mode": (
        {"evaluate": _evaluate("with torch.no_grad():\n    return score(model.eval(), loader)")},
        {"test-modes": 2},
    ),
    "all in train mode afterwards": (
        {
            "evaluate": _evaluate(
                """
with torch.no_grad():
    try:
        return score(model.eval(), loader)
    finally:
        model.train()
"""
            )
        },
        {"test-modes": 1},
    ),
    "only the root's mode is put back": (
        {
            "evaluate": _evaluate(
                """
was = model.training
with torch.no_grad():
    try:
        return score(model.eval(), loader)
    finally:
        model.train(was)
"""
            )
        },
        {"test-modes": 1},
    ),
    "no finally": (
        {
            "evaluate": """
def evaluate(model, loader):
    modes = [(m, m.training) for m in model.modules()]
    state = torch.get_rng_state()
    with torch.no_grad():
        result = score(model.eval(), loader)
    for m, mode in modes:
        m.training = mode
    torch.set_rng_state(state)
    return result
"""
        },
        {"test-modes": 1, "test-nothing-moves": 0.5},
    ),
    "the error is swallowed": (
        {
            "evaluate": """
def evaluate(model, loader):
    modes = [(m, m.training) for m in model.modules()]
    result = float("nan"), float("nan")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            result = score(model.eval(), loader)
        except Exception as error:
            print(error)
    for m, mode in modes:
        m.training = mode
    return result
"""
        },
        {"test-modes": 1, "test-nothing-moves": 0.5},
    ),
    "gradients stay off": (
        {
            "evaluate": _evaluate(
                """
modes = [(m, m.training) for m in model.modules()]
torch.set_grad_enabled(False)
try:
    return score(model.eval(), loader)
finally:
    for m, mode in modes:
        m.training = mode
"""
            )
        },
        {"test-modes": 1},
    ),
    "the loader draws": (
        {
            "evaluate": """
def evaluate(model, loader):
    modes = [(m, m.training) for m in model.modules()]
    try:
        with torch.inference_mode():
            return score(model.eval(), loader)
    finally:
        for m, mode in modes:
            m.training = mode
"""
        },
        {"test-nothing-moves": 2},
    ),
    "a seed of its own": (
        {
            "evaluate": """
def evaluate(model, loader):
    torch.manual_seed(0)
    with in_eval_mode(model), torch.no_grad():
        return score(model, loader)

from contextlib import contextmanager

@contextmanager
def in_eval_mode(model):
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for m, mode in modes:
            m.training = mode
"""
        },
        {"test-nothing-moves": 2},
    ),
    "a mean of the batches' F1": (
        {
            "f1": """
def f1(model, loader, label):
    total = count = 0
    for x, y in loader:
        guess, true = model(x).argmax(1) == label, y == label
        below = (guess.sum() + true.sum()).item()
        total += len(y) * (2 * (guess & true).sum().item() / below if below else 0)
        count += len(y)
    return total / count
"""
        },
        {"test-f1": 1},
    ),
    "F1 of nothing divides by zero": (
        {
            "f1": """
def f1(model, loader, label):
    hits = below = 0
    for x, y in loader:
        guess, true = model(x).argmax(1) == label, y == label
        hits += 2 * (guess & true).sum().item()
        below += (guess.sum() + true.sum()).item()
    return hits / below
"""
        },
        {"test-f1": 0.5},
    ),
}
# Right on the public checks alone.
HARD_CODED = {
    "score": """
def score(model, loader):
    for x, y in loader:
        scores = model(x)
        return F.cross_entropy(scores, y).item(), (scores.argmax(1) == y).double().mean().item()
""",
    "evaluate": """
def evaluate(model, loader):
    result = score(model.eval(), loader)
    model.train()
    return result
""",
    "f1": "def f1(model, loader, label):\n    return 0.5",
}
