"""Right and wrong answers to "Batch norm from scratch", for the tests that the grading is fair."""

IN_PLACE = {
    "normalise": """
def normalise(x, eps):
    centred = x - x.mean(0, keepdim=True)
    return centred * torch.rsqrt((centred**2).mean(0, keepdim=True) + eps)
""",
    "remember": """
def remember(mean, var, x, momentum, count):
    m = momentum if momentum is not None else 1.0 / count
    n = x.shape[0]
    b_mean = x.sum(0) / n
    b_var = ((x - b_mean) ** 2).sum(0) / (n - 1)
    mean += m * (b_mean - mean)
    var += m * (b_var - var)
    return mean, var
""",
    "layer": """
class BatchNorm(nn.Module):
    def __init__(self, channels, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def forward(self, x):
        if self.training:
            mean, var = x.mean(0), x.var(0, unbiased=False)
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                m = self.momentum
                if m is None:
                    m = 1 / self.num_batches_tracked.item()
                self.running_mean.mul_(1 - m).add_(m * mean)
                self.running_var.mul_(1 - m).add_(m * x.var(0))
        else:
            mean, var = self.running_mean, self.running_var
        return self.weight * (x - mean) / torch.sqrt(var + self.eps) + self.bias
""",
}
LOOPS = {
    "normalise": """
def normalise(x, eps):
    out = torch.empty_like(x, dtype=torch.float64)
    for c in range(x.shape[1]):
        column = x[:, c].double()
        m = sum(column) / len(column)
        v = sum((value - m) ** 2 for value in column) / len(column)
        out[:, c] = (column - m) / (v + eps) ** 0.5
    return out
""",
    "remember": """
def remember(mean, var, x, momentum, count):
    new_mean, new_var = [], []
    for c in range(x.shape[1]):
        m, v = x[:, c].mean().item(), x[:, c].var().item()
        if momentum is None:
            new_mean.append((mean[c].item() * (count - 1) + m) / count)
            new_var.append((var[c].item() * (count - 1) + v) / count)
        else:
            new_mean.append(mean[c].item() * (1 - momentum) + m * momentum)
            new_var.append(var[c].item() * (1 - momentum) + v * momentum)
    return torch.tensor(new_mean), torch.tensor(new_var)
""",
    "layer": """
class BatchNorm(nn.Module):
    def __init__(self, channels, eps=1e-5, momentum=0.1):
        super().__init__()
        self.channels, self.eps, self.momentum = channels, eps, momentum
        self.weight = nn.Parameter(torch.full((channels,), 1.0))
        self.bias = nn.Parameter(torch.full((channels,), 0.0))
        for name, value in [("running_mean", 0.0), ("running_var", 1.0)]:
            self.register_buffer(name, torch.full((channels,), value))
        self.register_buffer("num_batches_tracked", torch.zeros(()))

    def forward(self, x):
        columns = []
        if self.training:
            self.num_batches_tracked = self.num_batches_tracked + 1
        for c in range(self.channels):
            column = x[:, c]
            if self.training:
                mean = column.mean()
                var = ((column - mean) ** 2).mean()
                m = self.momentum
                if m is None:
                    m = 1.0 / float(self.num_batches_tracked)
                n = len(column)
                self.running_mean[c] = (1 - m) * self.running_mean[c] + m * mean.detach()
                self.running_var[c] = (1 - m) * self.running_var[c] + m * var.detach() * n / (n - 1)
            else:
                mean, var = self.running_mean[c], self.running_var[c]
            columns.append((column - mean) / (var + self.eps) ** 0.5 * self.weight[c] + self.bias[c])
        return torch.stack(columns, 1)
""",
}
VAR_MEAN = {
    "normalise": """
def normalise(x, eps):
    var, mean = torch.var_mean(x, dim=0, correction=0)
    return x.sub(mean).div(var.add(eps).sqrt())
""",
    "remember": """
def remember(mean, var, x, momentum, count):
    new_var, new_mean = torch.var_mean(x, dim=0, correction=1)
    weight = 1 / count if momentum is None else momentum
    return [torch.lerp(mean, new_mean, weight), torch.lerp(var, new_var, weight)]
""",
    "layer": """
class BatchNorm(nn.Module):
    def __init__(self, channels, eps=1e-5, momentum=0.1):
        nn.Module.__init__(self)
        self.eps, self.momentum = eps, momentum
        self.register_parameter("weight", nn.Parameter(torch.ones(channels)))
        self.register_parameter("bias", nn.Parameter(torch.zeros(channels)))
        self.register_buffer("num_batches_tracked", torch.tensor(0))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("running_mean", torch.zeros(channels))

    @torch.no_grad()
    def track(self, x):
        self.num_batches_tracked += 1
        mean, var = remember(
            self.running_mean, self.running_var, x, self.momentum, self.num_batches_tracked
        )
        self.running_mean.copy_(mean)
        self.running_var.copy_(var)

    def forward(self, x):
        if not self.training:
            scale = self.weight / (self.running_var + self.eps).sqrt()
            return x * scale + (self.bias - self.running_mean * scale)
        self.track(x)
        return torch.addcmul(self.bias, normalise(x, self.eps), self.weight)
""",
}
RIGHT = {"in place": IN_PLACE, "loops": LOOPS, "var_mean": VAR_MEAN}


def _layer(*changes):
    """The first right layer with some of its text replaced."""
    text = IN_PLACE["layer"]
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return {"layer": text}


# What is wrong, and the points that each task loses for it.
WRONG = {
    "divided by the unbiased variance": (
        {
            "normalise": "def normalise(x, eps):\n    return (x - x.mean(0)) / (x.var(0) + eps).sqrt()"
        },
        {"test-normalise": 1},
    ),
    "eps outside the root": (
        {
            "normalise": """
def normalise(x, eps):
    return (x - x.mean(0)) / (x.std(0, unbiased=False) + eps)
"""
        },
        {"test-normalise": 0.5},
    ),
    "one mean for all channels": (
        {
            "normalise": """
def normalise(x, eps):
    return (x - x.mean()) / (x.var(unbiased=False) + eps).sqrt()
"""
        },
        {"test-normalise": 2.5},
    ),
    "momentum as an optimiser has it": (
        {
            "remember": """
def remember(mean, var, x, momentum, count):
    m = 1 - 1 / count if momentum is None else momentum
    return m * mean + (1 - m) * x.mean(0), m * var + (1 - m) * x.var(0)
"""
        },
        {"test-remember": 2},
    ),
    "the biased variance is remembered": (
        {
            "remember": """
def remember(mean, var, x, momentum, count):
    m = 1 / count if momentum is None else momentum
    return (1 - m) * mean + m * x.mean(0), (1 - m) * var + m * x.var(0, unbiased=False)
"""
        },
        {"test-remember": 1},
    ),
    "None is taken for the default": (
        {
            "remember": """
def remember(mean, var, x, momentum, count):
    m = 0.1 if momentum is None else momentum
    return (1 - m) * mean + m * x.mean(0), (1 - m) * var + m * x.var(0)
"""
        },
        {"test-remember": 1},
    ),
    "plain attributes, no buffers": (
        _layer(
            (
                'self.register_buffer("running_mean", torch.zeros(channels))',
                "self.running_mean = torch.zeros(channels)",
            ),
            (
                'self.register_buffer("running_var", torch.ones(channels))',
                "self.running_var = torch.ones(channels)",
            ),
        ),
        {"test-layer": 1},
    ),
    "the layer remembers the biased variance": (
        _layer(("m * x.var(0)", "m * var")),
        # Seen in the variance, in both kinds of momentum, and wherever it is used.
        {"test-layer": 3},
    ),
    "the memory moves in eval mode too": (
        _layer(
            ("if self.training:", "if True:"),
            (
                "        else:\n            mean, var",
                "        if not self.training:\n            mean, var",
            ),
        ),
        {"test-layer": 2},
    ),
    "the batch in both modes": (
        _layer(
            (
                "mean, var = self.running_mean, self.running_var",
                "mean, var = x.mean(0), x.var(0, unbiased=False)",
            )
        ),
        {"test-layer": 1.5},
    ),
    "the gradient switch instead of the mode": (
        _layer(("if self.training:", "if torch.is_grad_enabled():")),
        {"test-layer": 2},
    ),
    "the graph stays in the buffers": (
        _layer(
            ("with torch.no_grad():", "if True:"),
            (
                "self.running_mean.mul_(1 - m).add_(m * mean)",
                "self.running_mean = (1 - m) * self.running_mean + m * mean",
            ),
            (
                "self.running_var.mul_(1 - m).add_(m * x.var(0))",
                "self.running_var = (1 - m) * self.running_var + m * x.var(0)",
            ),
        ),
        {"test-layer": 0.5},
    ),
}
# Right on the public checks alone.
HARD_CODED = {
    "normalise": "def normalise(x, eps):\n    return (x - x.mean()) / x.std(unbiased=False)",
    "remember": "def remember(mean, var, x, momentum, count):\n    return torch.tensor([5 * momentum]), var",
    "layer": "class BatchNorm(nn.Module):\n    def __init__(self, channels, eps=1e-5, momentum=0.1):\n        super().__init__()\n    def forward(self, x):\n        return x",
}
