"""Right and wrong answers to "A frozen backbone", for the tests that the grading is fair."""

LOOPS = {
    "freeze": """
def freeze(backbone):
    for parameter in backbone.parameters():
        parameter.requires_grad = False
        parameter.grad = None
    for module in backbone.modules():
        module.training = False
""",
    "model": """
class FineTuned(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.body = backbone
        self.top = head

    def forward(self, x):
        with torch.no_grad():
            features = self.body(x)
        return self.top(features)

    def train(self, mode=True):
        self.training = mode
        self.top.train(mode)
        return self
""",
    "train": """
def train_head(backbone, head, batches, lr):
    model = nn.Sequential(backbone, head)
    model.train()
    backbone.eval()
    wanted = filter(lambda p: p.requires_grad, model.parameters())
    optimizer = torch.optim.SGD(wanted, lr=lr)
    criterion = nn.CrossEntropyLoss()
    for x, y in batches:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return optimizer
""",
    "report": """
import copy

def snapshot(model):
    return copy.deepcopy(model.state_dict())

def moved(before, model):
    names = set()
    for name, value in model.state_dict().items():
        if (value != before[name]).any():
            names.add(name)
    return names
""",
}
PATCHED = {
    "freeze": """
def freeze(backbone):
    backbone.zero_grad()
    backbone.apply(lambda module: module.train(False))
    for _, p in backbone.named_parameters():
        p.requires_grad_(False)
    return backbone
""",
    "model": """
class FineTuned(nn.Sequential):
    def __init__(self, backbone, head):
        backbone.train = lambda mode=True: backbone
        super().__init__(backbone, head)
""",
    "train": """
def train_head(backbone, head, batches, lr):
    with torch.no_grad():
        features = [(backbone(x), y) for x, y in batches]
    groups = [{"params": [p], "lr": lr} for p in head.parameters()]
    optimizer = torch.optim.SGD(groups)
    for f, y in features:
        F.nll_loss(head.train()(f).log_softmax(dim=1), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    head.eval()
    return optimizer
""",
    "report": """
def snapshot(model):
    values = [*model.named_parameters(), *model.named_buffers()]
    return [(name, value.detach().numpy().copy()) for name, value in values]

def moved(before, model):
    old = dict(before)
    return [name for name, value in snapshot(model) if (value != old[name]).any()]
""",
}
WITH_MODEL = {
    **LOOPS,
    "freeze": """
def freeze(backbone):
    backbone.eval()
    backbone.requires_grad_(False)
    for p in backbone.parameters():
        if p.grad is not None:
            p.grad = None
""",
    "model": """
class FineTuned(torch.nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.parts = nn.ModuleList([backbone, head])
        freeze(self.parts[0])
        self.train(self.training)

    def train(self, mode=True):
        model = super().train(mode)
        for module in self.parts[0].modules():
            module.training = False
        return model

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x
""",
    "train": """
def train_head(backbone, head, batches, lr):
    model = FineTuned(backbone, head)
    optimizer = torch.optim.SGD(list(head.parameters()), lr)
    for x, y in batches:
        model.train()
        optimizer.zero_grad(set_to_none=False)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.eval()
    return optimizer
""",
}
RIGHT = {"loops": LOOPS, "patched, features first": PATCHED, "the model in the loop": WITH_MODEL}

# What is wrong, and the points that each task loses for it.
WRONG = {
    "parameters alone are frozen": (
        {
            "freeze": """
def freeze(backbone):
    backbone.requires_grad_(False)
    backbone.zero_grad()
"""
        },
        {"test-freeze": 1.5},
    ),
    "statistics alone are frozen": (
        {"freeze": "def freeze(backbone):\n    backbone.eval()"},
        {"test-freeze": 1.5},
    ),
    "zeros are left in the gradients": (
        {
            "freeze": """
def freeze(backbone):
    backbone.requires_grad_(False).eval()
    backbone.zero_grad(set_to_none=False)
"""
        },
        {"test-freeze": 0.5},
    ),
    "batch norms of the first level alone": (
        {
            "freeze": """
def freeze(backbone):
    backbone.requires_grad_(False)
    backbone.zero_grad()
    for layer in backbone.children():
        if isinstance(layer, nn.BatchNorm1d):
            layer.eval()
"""
        },
        {"test-freeze": 1.5},
    ),
    "dropout is still on": (
        {
            "freeze": """
def freeze(backbone):
    backbone.requires_grad_(False)
    backbone.zero_grad()
    for layer in backbone.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.eval()
"""
        },
        {"test-freeze": 0.5},
    ),
    "frozen once, thawed by train()": (
        {
            "model": """
class FineTuned(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x):
        return self.head(self.backbone(x))
"""
        },
        {"test-model": 2.5},
    ),
    "train() returns nothing": (
        {
            "model": """
class FineTuned(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()

    def forward(self, x):
        return self.head(self.backbone(x))
"""
        },
        {"test-model": 0.5},
    ),
    "forward() switches the mode": (
        {
            "model": """
class FineTuned(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x):
        self.backbone.eval()
        return self.head(self.backbone(x))
"""
        },
        {"test-model": 1.5},
    ),
    "the backbone is hidden in a list": (
        {
            "model": """
class FineTuned(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.hidden, self.head = [backbone], head

    def forward(self, x):
        return self.head(self.hidden[0](x))
"""
        },
        {"test-model": 1},
    ),
    "train() forgets the head": (
        {
            "model": """
class FineTuned(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def train(self, mode=True):
        self.training = mode
        return self

    def forward(self, x):
        return self.head(self.backbone(x))
"""
        },
        {"test-model": 0.5},
    ),
    "the loop thaws": (
        {
            "train": """
def train_head(backbone, head, batches, lr):
    model = nn.Sequential(backbone, head)
    optimizer = torch.optim.SGD(head.parameters(), lr=lr)
    for x, y in batches:
        model.train()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    backbone.eval()
    return optimizer
"""
        },
        {"test-train": 2},
    ),
    "the optimiser holds everything": (
        {
            "train": """
def train_head(backbone, head, batches, lr):
    model = nn.Sequential(backbone, head)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    head.train()
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return optimizer
"""
        },
        {"test-train": 1},
    ),
    "the head is trained in eval mode": (
        {
            "train": """
def train_head(backbone, head, batches, lr):
    optimizer = torch.optim.SGD(head.parameters(), lr=lr)
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(head(backbone(x)), y).backward()
        optimizer.step()
    return optimizer
"""
        },
        {"test-train": 1},
    ),
    "gradients add up": (
        {
            "train": """
def train_head(backbone, head, batches, lr):
    optimizer = torch.optim.SGD(head.train().parameters(), lr=lr)
    for x, y in batches:
        F.cross_entropy(head(backbone(x)), y).backward()
        optimizer.step()
    return optimizer
"""
        },
        {"test-train": 1},
    ),
    "the note is no copy": (
        {
            "report": """
def snapshot(model):
    return model.state_dict()

def moved(before, model):
    now = model.state_dict()
    return [name for name in now if not torch.equal(now[name], before[name])]
"""
        },
        {"test-report": 2},
    ),
    "parameters alone are compared": (
        {
            "report": """
def snapshot(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}

def moved(before, model):
    return [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
"""
        },
        {"test-report": 0.5},
    ),
    "near is taken for equal": (
        {
            "report": """
import copy

def snapshot(model):
    return copy.deepcopy(model.state_dict())

def moved(before, model):
    now = model.state_dict()
    return [name for name in now if not torch.allclose(now[name], before[name])]
"""
        },
        {"test-report": 0.5},
    ),
}
# Right on the public checks alone.
HARD_CODED = {
    "freeze": """
def freeze(backbone):
    backbone[0].weight.requires_grad = False
    backbone.training = False
""",
    "model": """
class FineTuned(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        backbone.training = False

    def forward(self, x):
        return torch.zeros(len(x), CLASSES)
""",
    "train": """
def train_head(backbone, head, batches, lr):
    with torch.no_grad():
        head[0].weight += 1
    return torch.optim.SGD(head.parameters(), lr=lr)
""",
    "report": """
def snapshot(model):
    return None

def moved(before, model):
    return []
""",
}
