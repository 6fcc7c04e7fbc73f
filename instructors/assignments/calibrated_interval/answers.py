"""Right and wrong answers to "How sure is a score?", for the tests that the grading is fair."""

SCIPY = {
    "wilson": """
def wilson(right, count, level):
    found = stats.binomtest(right, count).proportion_ci(level, method="wilson")
    return found.low, found.high
""",
    "paired": """
def paired_p(first, second):
    only = int((first & ~second).sum())
    apart = int((first != second).sum())
    return stats.binomtest(only, apart, 0.5).pvalue if apart else 1.0
""",
    "ece": """
import numpy as np

def ece(scores, labels, bins):
    chances = scores.detach().numpy().astype("float64")
    chances = np.exp(chances - chances.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    confidence = chances.max(1)
    right = chances.argmax(1) == labels.numpy()
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    which = np.digitize(confidence, inner)
    total = 0.0
    for k in np.unique(which):
        chosen = which == k
        total += chosen.mean() * abs(confidence[chosen].mean() - right[chosen].mean())
    return total
""",
    "temperature": """
def fit_temperature(scores, labels):
    def slope(log_t):
        b = torch.tensor(math.exp(-log_t), dtype=scores.dtype, requires_grad=True)
        F.cross_entropy(scores * b, labels).backward()
        return b.grad.item()

    return math.exp(optimize.brentq(slope, -6, 6))
""",
    "report": """
@torch.inference_mode()
def report(model, parts):
    model.eval()
    x, y = parts["validation"]
    with torch.inference_mode(False):
        T = fit_temperature(model(x).detach().clone(), y)
    scores, labels = model(parts["test"][0]), parts["test"][1]
    before, after = (F.cross_entropy(scores / t, labels).item() for t in (1, T))
    return dict(temperature=T, before=before, after=after)
""",
}
BY_HAND = {
    "wilson": """
from statistics import NormalDist

def wilson(right, count, level):
    # the rates p with (right / count - p)^2 = z^2 p (1 - p) / count
    z2 = NormalDist().inv_cdf(0.5 + level / 2) ** 2
    a, b, c = 1 + z2 / count, -(2 * right / count + z2 / count), (right / count) ** 2
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return torch.tensor([(-b - root) / (2 * a), (-b + root) / (2 * a)])
""",
    "paired": """
def paired_p(first, second):
    a = sum(1 for f, s in zip(first.tolist(), second.tolist()) if f and not s)
    b = sum(1 for f, s in zip(first.tolist(), second.tolist()) if s and not f)
    if a == b:
        return 1
    return 2 * stats.binom.cdf(min(a, b), a + b, 0.5)
""",
    "ece": """
def ece(scores, labels, bins):
    chances = F.softmax(scores.float(), dim=-1)
    held = [[] for _ in range(bins)]
    for row, label in zip(chances.tolist(), labels.tolist()):
        top = max(row)
        held[min(bins - 1, int(top * bins))].append((top, row.index(top) == label))
    error = 0
    for one in held:
        if one:
            mean = sum(c for c, _ in one) / len(one)
            share = sum(r for _, r in one) / len(one)
            error += abs(mean - share) * len(one) / len(labels)
    return error
""",
    "temperature": """
def fit_temperature(scores, labels):
    grid = torch.logspace(-1.5, 1.5, 400, dtype=torch.float64)
    losses = torch.stack([F.cross_entropy(scores / t, labels) for t in grid])
    return grid[losses.argmin()]
""",
    "report": """
def report(model, parts):
    was = model.training
    model.train(False)
    val_x, val_y = parts["validation"]
    test_x, test_y = parts["test"]
    val_scores, test_scores = model(val_x).detach(), model(test_x).detach()
    model.train(was)
    t = fit_temperature(val_scores, val_y)
    answer = {}
    answer["after"] = nn.CrossEntropyLoss()(test_scores / t, test_y)
    answer["before"] = nn.CrossEntropyLoss()(test_scores, test_y)
    answer["temperature"] = t
    return answer
""",
}
LBFGS = {
    **SCIPY,
    "wilson": """
def wilson(right, count, level):
    z = -stats.norm.isf(1 - (1 - level) / 2)
    n_ = count + z * z
    p_ = (right + z * z / 2) / n_
    half = abs(z) / n_ * math.sqrt(right * (count - right) / count + z * z / 4)
    return [p_ - half, p_ + half]
""",
    "paired": """
def paired_p(first, second):
    n = (first ^ second).sum()
    k = torch.minimum((first & ~second).sum(), (second & ~first).sum())
    return min(1.0, 2 * float(stats.binom(int(n), 0.5).cdf(int(k))))
""",
    "ece": """
def ece(scores, labels, bins):
    confidence, predicted = scores.softmax(1).max(1)
    edges = torch.linspace(0, 1, bins + 1, dtype=confidence.dtype)
    error = 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = confidence.gt(low) & confidence.le(high)
        if inside.sum() > 0:
            right = (predicted[inside] == labels[inside]).float().mean()
            error = error + inside.float().mean() * (confidence[inside].mean() - right).abs()
    return error
""",
    "temperature": """
def fit_temperature(scores, labels):
    log_t = torch.zeros((), dtype=scores.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(scores / log_t.exp(), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_t.exp().item()
""",
}
RIGHT = {"scipy": SCIPY, "by hand": BY_HAND, "LBFGS": LBFGS}

# What is wrong, and the points that each task loses for it.
WRONG = {
    "the textbook's interval": (
        {
            "wilson": """
def wilson(right, count, level):
    z, rate = stats.norm.ppf((1 + level) / 2), right / count
    half = z * math.sqrt(rate * (1 - rate) / count)
    return max(0, rate - half), min(1, rate + half)
"""
        },
        {"test-wilson": 2},
    ),
    "1.96 for every level": (
        {
            "wilson": """
def wilson(right, count, level):
    z, rate = 1.96, right / count
    centre = rate + z**2 / (2 * count)
    half = z * math.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    return (centre - half) / (1 + z**2 / count), (centre + half) / (1 + z**2 / count)
"""
        },
        {"test-wilson": 3},
    ),
    "deviations of one side": (
        {
            "wilson": """
def wilson(right, count, level):
    found = stats.binomtest(right, count).proportion_ci(2 * level - 1, method="wilson")
    return found.low, found.high
"""
        },
        {"test-wilson": 3},
    ),
    "chi-square instead of coins": (
        {
            "paired": """
def paired_p(first, second):
    a, b = (first & ~second).sum().item(), (~first & second).sum().item()
    return stats.chi2.sf((a - b) ** 2 / (a + b), 1) if a + b else 1.0
"""
        },
        {"test-paired": 2},
    ),
    "p of one side": (
        {
            "paired": """
def paired_p(first, second):
    a, b = (first & ~second).sum().item(), (~first & second).sum().item()
    return 1.0 if a == b else stats.binom.cdf(min(a, b), a + b, 0.5)
"""
        },
        {"test-paired": 2},
    ),
    "p above 1": (
        {
            "paired": """
def paired_p(first, second):
    a, b = (first & ~second).sum().item(), (~first & second).sum().item()
    return 2 * stats.binom.cdf(min(a, b), a + b, 0.5) if a + b else 1.0
"""
        },
        {"test-paired": 0.5},
    ),
    "not paired": (
        {
            "paired": """
def paired_p(first, second):
    table = [[int(m.sum()), int((~m).sum())] for m in (first, second)]
    return stats.fisher_exact(table).pvalue
"""
        },
        {"test-paired": 2},
    ),
    "each bin counts once": (
        {
            "ece": """
def ece(scores, labels, bins):
    confidence, predicted = scores.softmax(1).max(1)
    which = (confidence * bins).long().clamp(max=bins - 1)
    gaps = []
    for k in which.unique():
        inside = which == k
        gaps.append((confidence[inside].mean() - (predicted == labels)[inside].double().mean()).abs())
    return torch.stack(gaps).mean().item()
"""
        },
        {"test-ece": 2},
    ),
    "equally full bins": (
        {
            "ece": """
def ece(scores, labels, bins):
    confidence, predicted = scores.softmax(1).max(1)
    order = confidence.argsort()
    error = 0.0
    for rows in order.tensor_split(bins):
        right = (predicted == labels)[rows].double().mean()
        error += (confidence[rows].mean() - right).abs().item() * len(rows) / len(labels)
    return error
"""
        },
        {"test-ece": 1},
    ),
    "empty bins give nan": (
        {
            "ece": """
def ece(scores, labels, bins):
    confidence, predicted = scores.softmax(1).max(1)
    error = 0.0
    for k in range(bins):
        inside = (confidence > k / bins) & (confidence <= (k + 1) / bins)
        right = (predicted == labels)[inside].double().mean()
        error += (confidence[inside].mean() - right).abs().item() * inside.double().mean().item()
    return error
"""
        },
        {"test-ece": 2},
    ),
    "a confidence of 1 falls out": (
        {
            "ece": """
def ece(scores, labels, bins):
    confidence, predicted = scores.softmax(1).max(1)
    error = 0.0
    for k in range(bins):
        inside = (confidence >= k / bins) & (confidence < (k + 1) / bins)
        if inside.any():
            right = (predicted == labels)[inside].double().mean()
            error += (confidence[inside].mean() - right).abs().item() * inside.double().mean().item()
    return error
"""
        },
        {"test-ece": 1},
    ),
    "steps that are too small": (
        {
            "temperature": """
def fit_temperature(scores, labels):
    T = torch.ones((), dtype=scores.dtype, requires_grad=True)
    optimizer = torch.optim.SGD([T], lr=0.01)
    for _ in range(50):
        optimizer.zero_grad()
        F.cross_entropy(scores / T, labels).backward()
        optimizer.step()
    return T.item()
"""
        },
        {"test-temperature": 2, "test-report": 1},
    ),
    "times instead of divided by": (
        {
            "temperature": """
def fit_temperature(scores, labels):
    def loss(log_t):
        return F.cross_entropy(scores * math.exp(log_t), labels).item()
    return math.exp(optimize.minimize_scalar(loss, bounds=(-4, 4), method="bounded").x)
"""
        },
        {"test-temperature": 2, "test-report": 1},
    ),
    "a temperature of 1": (
        {"temperature": "def fit_temperature(scores, labels):\n    return 1.0"},
        {"test-temperature": 2, "test-report": 1.5},
    ),
    "never below 1": (
        {
            "temperature": """
def fit_temperature(scores, labels):
    def loss(t):
        return F.cross_entropy(scores / t, labels).item()
    return optimize.minimize_scalar(loss, bounds=(1, 50), method="bounded").x
"""
        },
        {"test-temperature": 0.5},
    ),
    "fitted on the test part": (
        {
            "report": """
@torch.no_grad()
def report(model, parts):
    x, y = parts["test"]
    scores = model.eval()(x)
    with torch.enable_grad():
        T = fit_temperature(scores, y)
    before, after = F.cross_entropy(scores, y).item(), F.cross_entropy(scores / T, y).item()
    return {"temperature": T, "before": before, "after": after}
"""
        },
        {"test-report": 1},
    ),
    "fitted on the training part": (
        {
            "temperature": """
def fit_temperature(scores, labels):
    def loss(log_t):
        return F.cross_entropy(scores / math.exp(log_t), labels).item()
    return math.exp(optimize.minimize_scalar(loss, bounds=(-4, 4), method="bounded").x)
""",
            "report": """
def report(model, parts):
    model.eval()
    with torch.no_grad():
        scores = {name: model(x) for name, (x, _) in parts.items()}
    T = fit_temperature(scores["train"], parts["train"][1])
    y = parts["test"][1]
    return {
        "temperature": T,
        "before": F.cross_entropy(scores["test"], y).item(),
        "after": F.cross_entropy(scores["test"] / T, y).item(),
    }
""",
        },
        {"test-report": 1},
    ),
    "in train mode": (
        {
            "report": """
def report(model, parts):
    with torch.no_grad():
        scores = {name: model(x) for name, (x, _) in parts.items()}
    T = fit_temperature(scores["validation"], parts["validation"][1])
    y = parts["test"][1]
    return {
        "temperature": T,
        "before": F.cross_entropy(scores["test"], y).item(),
        "after": F.cross_entropy(scores["test"] / T, y).item(),
    }
"""
        },
        {"test-report": 2},
    ),
    "the loss of the validation part": (
        {
            "report": """
def report(model, parts):
    x, y = parts["validation"]
    scores = model.eval()(x).detach()
    T = fit_temperature(scores, y)
    before, after = F.cross_entropy(scores, y).item(), F.cross_entropy(scores / T, y).item()
    return {"temperature": T, "before": before, "after": after}
"""
        },
        {"test-report": 1},
    ),
}
# Right on the public checks alone.
HARD_CODED = {
    "wilson": "def wilson(right, count, level):\n    return 0.8, 0.95",
    "paired": "def paired_p(first, second):\n    return 1.0",
    "ece": """
def ece(scores, labels, bins):
    return 0.0474
""",
    "temperature": "def fit_temperature(scores, labels):\n    return 1.01",
    "report": """
def report(model, parts):
    return {"temperature": 1.01, "before": 0.1, "after": 0.05}
""",
}
