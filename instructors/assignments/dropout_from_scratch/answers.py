"""Right and wrong answers to "Dropout from scratch", for the tests that the grading is fair."""

BERNOULLI = {
    "drop": """
def drop(x, p, training):
    if not training:
        return x
    if p == 1:
        return torch.zeros_like(x)
    return torch.bernoulli(torch.full_like(x, 1 - p)) * x / (1 - p)
""",
    "layer": """
class Drop(nn.Module):
    def __init__(self, p=0.5):
        if p < 0 or p > 1:
            raise ValueError("p")
        super().__init__()
        self.p = p

    def forward(self, x):
        return drop(x, self.p, training=self.training)
""",
    "channels": """
def drop_channels(x, p, training):
    if not training:
        return x
    kept = torch.rand(x.shape[0], x.shape[1]) > p
    return torch.einsum("nchw,nc->nchw", x, kept.float()) / (1 - p)
""",
}
LOOPS = {
    **BERNOULLI,
    "drop": """
import random

def drop(x, p, training):
    out = x.clone()
    if training:
        flat = out.view(-1)
        scale = 1 / (1 - p) if p < 1 else 0.0
        for i in range(len(flat)):
            flat[i] = 0.0 if random.random() < p else flat[i] * scale
    return out
""",
    "channels": """
def drop_channels(x, p, training):
    rows = []
    for row in x:
        rows.append(torch.stack([c * drop(torch.ones(1), p, training) for c in row]))
    return torch.stack(rows)
""",
}
MASKED_FILL = {
    **BERNOULLI,
    "drop": """
def drop(x, p, training):
    if training and p > 0:
        gone = torch.empty_like(x).uniform_() < p
        x = x.masked_fill(gone, 0.0)
        if p < 1:
            x = x.div(1 - p)
    return x
""",
    "layer": """
class Drop(torch.nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        assert_ok = 0.0 <= p <= 1.0
        if not assert_ok:
            raise ValueError("dropout probability has to be between 0 and 1")
        self.keep = 1 - p

    def forward(self, values):
        if self.training:
            return drop(values, 1 - self.keep, True)
        return values
""",
}
RIGHT = {"bernoulli": BERNOULLI, "loops": LOOPS, "masked fill": MASKED_FILL}

# What is wrong, and the points that each task loses for it.
WRONG = {
    "no scaling": (
        {
            "drop": "def drop(x, p, training):\n    return x * (torch.rand_like(x) >= p) if training else x"
        },
        {"test-drop": 1},
    ),
    "everything is dropped": (
        {"drop": "def drop(x, p, training):\n    return x * 0 if training else x"},
        {"test-drop": 3, "test-layer": 2},
    ),
    "drops in both modes": (
        {
            "drop": """
def drop(x, p, training):
    keep = torch.rand_like(x) >= p
    return x * keep / (1 - p) if p < 1 else x * 0
"""
        },
        {"test-drop": 1, "test-layer": 1.5},
    ),
    "p is what is kept": (
        {
            "drop": """
def drop(x, p, training):
    if not training:
        return x
    return x * (torch.rand_like(x) < p) / p if p else x * 0
"""
        },
        {"test-drop": 2.5, "test-layer": 0.5},
    ),
    "the layer never asks the mode": (
        {
            "layer": """
class Drop(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError("p")
        self.p = p

    def forward(self, x):
        return drop(x, self.p, True)
"""
        },
        {"test-layer": 1.5},
    ),
    "one mask for all rows": (
        {
            "channels": """
def drop_channels(x, p, training):
    if not training:
        return x
    mask = (torch.rand(x.shape[1]) >= p).float()[None, :, None, None]
    return x * mask / (1 - p)
"""
        },
        {"test-channels": 1},
    ),
    "single values, not channels": (
        {"channels": "def drop_channels(x, p, training):\n    return drop(x, p, training)"},
        {"test-channels": 2},
    ),
}
# Right on the public checks alone.
HARD_CODED = {
    "drop": "def drop(x, p, training):\n    return x",
    "layer": "class Drop(nn.Module):\n    def __init__(self, p=0.5):\n        super().__init__()\n    def forward(self, x):\n        return x",
    "channels": "def drop_channels(x, p, training):\n    return x",
}
