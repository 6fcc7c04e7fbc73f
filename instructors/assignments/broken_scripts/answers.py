"""Right and wrong answers to "Broken scripts", for the tests that the grading is fair."""

PLAIN = {
    "accuracy": """
def accuracy(model, loader):
    modes = {name: module.training for name, module in model.named_modules()}
    model.eval()
    right = count = 0
    try:
        for x, y in loader:
            with torch.no_grad():
                right += (model(x).argmax(dim=1) == y).sum().item()
            count += len(y)
    finally:
        for name, module in model.named_modules():
            module.training = modes[name]
    return right / count
""",
    "fine-tuned": """
class FineTuned(nn.Module):
    def __init__(self, body, head):
        super().__init__()
        self.body, self.head = body, head
        self.body.requires_grad_(False)
        self.train()

    def train(self, mode=True):
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, x):
        return self.head(self.body(x))
""",
    "classifier": """
class Classifier(nn.Module):
    def __init__(self, inputs, width, classes, p):
        super().__init__()
        self.body, self.head = nn.Linear(inputs, width), nn.Linear(width, classes)
        self.drop = nn.Dropout(p)

    def forward(self, x):
        return self.head(self.drop(F.relu(self.body(x))))
""",
    "stack": """
class Stack(nn.Module):
    def __init__(self, width, depth, p):
        super().__init__()
        layers = []
        for _ in range(depth):
            layers += [nn.Linear(width, width), nn.Tanh(), nn.Dropout(p)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)
""",
    "mean-loss": """
def mean_loss(model, loader):
    model.eval()
    total = 0.0
    with torch.inference_mode():
        for x, y in loader:
            total += F.cross_entropy(model(x), y).item() * len(y)
    return total / len(loader.dataset)
""",
}
CONTEXT = {
    "accuracy": """
from contextlib import contextmanager

@contextmanager
def evaluating(model):
    modes = [m.training for m in model.modules()]
    try:
        yield model.eval()
    finally:
        for m, mode in zip(model.modules(), modes):
            m.training = mode

@torch.inference_mode()
def accuracy(model, loader):
    with evaluating(model):
        hits = [model(x).argmax(1) == y for x, y in loader]
    return torch.cat(hits).float().mean()
""",
    "fine-tuned": """
class FineTuned(nn.Module):
    def __init__(self, body, head):
        super().__init__()
        self.body, self.head = body, head
        for parameter in self.body.parameters():
            parameter.requires_grad = False
        self.body.eval()

    def train(self, mode: bool = True):
        self.training = mode
        for name, child in self.named_children():
            child.train(mode and name != "body")
        return self

    def forward(self, x):
        with torch.no_grad():
            features = self.body(x)
        return self.head(features)
""",
    "classifier": """
class Classifier(nn.Module):
    def __init__(self, inputs, width, classes, p):
        super().__init__()
        self.p = p
        self.body = nn.Linear(inputs, width)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        hidden = self.body(x).relu()
        if self.training:
            hidden = F.dropout(hidden, self.p)
        return self.head(hidden)
""",
    "stack": """
class Block(nn.Module):
    def __init__(self, width, p):
        super().__init__()
        self.linear, self.p = nn.Linear(width, width), p

    def forward(self, x):
        return F.dropout(torch.tanh(self.linear(x)), self.p, self.training)

class Stack(nn.Sequential):
    def __init__(self, width, depth, p):
        super().__init__(*(Block(width, p) for _ in range(depth)))
""",
    "mean-loss": """
@torch.no_grad()
def mean_loss(model, loader):
    was = model.training
    model.eval()
    scores, labels = [], []
    for x, y in loader:
        scores.append(model(x))
        labels.append(y)
    model.train(was)
    return F.cross_entropy(torch.cat(scores), torch.cat(labels))
""",
}
OTHERS = {
    "accuracy": """
import copy

def accuracy(model, loader):
    twin = copy.deepcopy(model).eval()
    x, y = (torch.cat(parts) for parts in zip(*loader))
    with torch.no_grad():
        return (twin(x).argmax(1) == y).double().mean()
""",
    "fine-tuned": """
class FineTuned(nn.Module):
    def __init__(self, body, head):
        super().__init__()
        self.body = body.eval().requires_grad_(False)
        self.head = head
        for module in self.body.modules():
            module.train = lambda mode=True, module=module: module

    def forward(self, x):
        return self.head(self.body(x))
""",
    "classifier": """
class Classifier(nn.Module):
    def __init__(self, inputs, width, classes, p):
        super().__init__()
        self.body, self.head = nn.Linear(inputs, width), nn.Linear(width, classes)
        self.p = p

    def forward(self, x):
        p = self.p if self.training else 0.0
        return self.head(F.dropout(F.relu(self.body(x)), p))
""",
    "stack": """
class Stack(nn.Module):
    def __init__(self, width, depth, p):
        super().__init__()
        self.depth, self.drop = depth, nn.Dropout(p)
        for i in range(depth):
            self.add_module(f"linear_{i}", nn.Linear(width, width))

    def forward(self, x):
        for i in range(self.depth):
            x = self.drop(torch.tanh(getattr(self, f"linear_{i}")(x)))
        return x
""",
    "mean-loss": """
def mean_loss(model, loader):
    losses = nn.CrossEntropyLoss(reduction="none")
    model.eval()
    each = []
    for x, y in loader:
        with torch.no_grad():
            each.extend(losses(model(x), y).tolist())
    model.train()
    return sum(each) / len(each)
""",
}
RIGHT = {"plain": PLAIN, "context manager": CONTEXT, "copies and hooks": OTHERS}

# What is wrong, and the points that each task loses for it.
WRONG = {
    "never back in train mode": (
        {
            "accuracy": """
def accuracy(model, loader):
    model.eval()
    right = count = 0
    with torch.no_grad():
        for x, y in loader:
            right += (model(x).argmax(dim=1) == y).sum().item()
            count += len(y)
    return right / count
"""
        },
        {"test-accuracy": 2.5},
    ),
    "always train() afterwards": (
        {
            "accuracy": """
def accuracy(model, loader):
    model.eval()
    right = count = 0
    with torch.no_grad():
        for x, y in loader:
            right += (model(x).argmax(dim=1) == y).sum().item()
            count += len(y)
    model.train()
    return right / count
"""
        },
        {"test-accuracy": 1.5},
    ),
    "the flag of the root alone, for all": (
        {
            "accuracy": """
def accuracy(model, loader):
    was = model.training
    model.eval()
    try:
        with torch.no_grad():
            right = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    finally:
        model.train(was)
    return right / len(loader.dataset)
"""
        },
        {"test-accuracy": 1.5},
    ),
    "no eval() at all": (
        {
            "accuracy": """
def accuracy(model, loader):
    with torch.no_grad():
        right = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return right / len(loader.dataset)
"""
        },
        {"test-accuracy": 2.5},
    ),
    "an error in the loader leaves eval mode": (
        {
            "accuracy": """
def accuracy(model, loader):
    modes = [module.training for module in model.modules()]
    model.eval()
    with torch.no_grad():
        right = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    for module, mode in zip(model.modules(), modes):
        module.training = mode
    return right / len(loader.dataset)
"""
        },
        {"test-accuracy": 0.5},
    ),
    "train() thaws the body": (
        {
            "fine-tuned": """
class FineTuned(nn.Module):
    def __init__(self, body, head):
        super().__init__()
        self.body, self.head = body, head
        self.body.requires_grad_(False)
        self.body.eval()

    def forward(self, x):
        return self.head(self.body(x))
"""
        },
        {"test-fine-tuned": 2.5},
    ),
    "the override forgets to return": (
        {"fine-tuned": PLAIN["fine-tuned"].replace("        return self\n", "")},
        {"test-fine-tuned": 1},
    ),
    "the head stays in eval mode too": (
        {"fine-tuned": PLAIN["fine-tuned"].replace("super().train(mode)", "super().train(False)")},
        {"test-fine-tuned": 1.5},
    ),
    "eval() overridden instead of train()": (
        {
            "fine-tuned": PLAIN["fine-tuned"]
            .replace("def train(self, mode=True)", "def eval(self)")
            .replace("super().train(mode)", "super().eval()")
        },
        {"test-fine-tuned": 2.5},
    ),
    "F.dropout is not told": (
        {
            "classifier": """
class Classifier(nn.Module):
    def __init__(self, inputs, width, classes, p):
        super().__init__()
        self.body, self.head = nn.Linear(inputs, width), nn.Linear(width, classes)
        self.p = p

    def forward(self, x):
        hidden = F.relu(self.body(x))
        return self.head(F.dropout(hidden, self.p))
"""
        },
        {"test-classifier": 2},
    ),
    "dropout taken out": (
        {
            "classifier": PLAIN["classifier"].replace(
                "self.drop(F.relu(self.body(x)))", "F.relu(self.body(x))"
            )
        },
        {"test-classifier": 1},
    ),
    "the mode the wrong way round": (
        {
            "classifier": PLAIN["classifier"]
            .replace("self.drop(F", "F.dropout(F")
            .replace("(x))))", "(x)), self.drop.p, not self.training))")
        },
        {"test-classifier": 2},
    ),
    "layers in a list": (
        {
            "stack": """
class Stack(nn.Module):
    def __init__(self, width, depth, p):
        super().__init__()
        self.layers = []
        for _ in range(depth):
            self.layers.append(nn.Linear(width, width))
            self.layers.append(nn.Tanh())
            self.layers.append(nn.Dropout(p))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x
"""
        },
        {"test-stack": 2},
    ),
    "only the dropout is registered": (
        {
            "stack": """
class Stack(nn.Module):
    def __init__(self, width, depth, p):
        super().__init__()
        self.layers = [nn.Linear(width, width) for _ in range(depth)]
        self.drop = nn.Dropout(p)

    def forward(self, x):
        for layer in self.layers:
            x = self.drop(torch.tanh(layer(x)))
        return x
"""
        },
        {"test-stack": 1},
    ),
    "the linear layers are registered, dropout is made in forward": (
        {
            "stack": """
class Stack(nn.Module):
    def __init__(self, width, depth, p):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.p = p

    def forward(self, x):
        for layer in self.layers:
            x = nn.Dropout(self.p)(torch.tanh(layer(x)))
        return x
"""
        },
        {"test-stack": 2},
    ),
    "the graph is kept, means are averaged": (
        {
            "mean-loss": """
def mean_loss(model, loader):
    model.eval()
    losses = []
    for x, y in loader:
        losses.append(F.cross_entropy(model(x), y))
    return sum(losses) / len(losses)
"""
        },
        {"test-mean-loss": 3},
    ),
    "no graph, but a mean of means": (
        {
            "mean-loss": """
def mean_loss(model, loader):
    model.eval()
    with torch.no_grad():
        losses = [F.cross_entropy(model(x), y).item() for x, y in loader]
    return sum(losses) / len(losses)
"""
        },
        {"test-mean-loss": 1.5},
    ),
    "item(), but a graph for each batch": (
        {"mean-loss": PLAIN["mean-loss"].replace("with torch.inference_mode():", "if True:")},
        {"test-mean-loss": 0.5},
    ),
    "the mean is right, the graph stays": (
        {
            "mean-loss": PLAIN["mean-loss"]
            .replace("with torch.inference_mode():", "if True:")
            .replace(".item()", "")
        },
        {"test-mean-loss": 1.5},
    ),
    "no eval(), the rest right": (
        {"mean-loss": PLAIN["mean-loss"].replace("    model.eval()\n", "")},
        {"test-mean-loss": 1.5},
    ),
}
# Right on the public checks alone.
HARD_CODED = {
    "accuracy": "def accuracy(model, loader):\n    return 0.5",
    "fine-tuned": """
class FineTuned(nn.Module):
    def __init__(self, body, head):
        super().__init__()
        self.body, self.head = body, head

    def train(self, mode=True):
        self.body.training = False

    def forward(self, x):
        return self.head(self.body(x))
""",
    "classifier": """
class Classifier(nn.Module):
    def __init__(self, inputs, width, classes, p):
        super().__init__()
        self.body, self.head = nn.Linear(inputs, width), nn.Linear(width, classes)

    def forward(self, x):
        return self.head(F.relu(self.body(x)))
""",
    "stack": """
class Stack(nn.Module):
    def __init__(self, width, depth, p):
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x):
        return self.layer(x)
""",
    "mean-loss": "def mean_loss(model, loader):\n    return 0.5",
}
