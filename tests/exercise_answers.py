"""Answers to the exercises in other styles than the book's, and typical wrong ones.

Each is what a reader would put in the place of the solution: two right ones, three wrong ones.
"""

ANSWERS = {
    ("01_two_modes", "A"): (
        [
            """
modes = [(part, part.training) for part in model.modules()]
buffers = [b.clone() for b in model.buffers()]
with torch.no_grad():
    outputs = [model.train(mode)(x) for mode in (True, False)]
    for buffer, before in zip(model.buffers(), buffers):
        buffer.copy_(before)
for part, mode in modes:
    part.training = mode
return bool((outputs[0] != outputs[1]).any())
""",
            """
one, other = copy.deepcopy(model).train(), copy.deepcopy(model).eval()
return (one(x) - other(x)).abs().max().item() > 1e-6
""",
        ],
        [
            "return not torch.allclose(model.train()(x), model.eval()(x))",
            "return any('Dropout' in type(m).__name__ for m in model.modules())",
            """
with evaluating(model):
    first = model(x)
return not torch.allclose(first, model(x))
""",
        ],
    ),
    ("01_two_modes", "B"): (
        [
            """
def train(self, mode=True):
    self.training = mode
    self.encoder.train(False)
    self.head.train(mode)
    return self
""",
            """
def train(self, *args):
    result = nn.Module.train(self, *args)
    for part in self.encoder.modules():
        part.training = False
    return result
""",
        ],
        [
            """
def train(self, mode=True):
    super().train(mode)
    self.encoder.eval()
""",
            """
def train(self, mode=True):
    self.encoder.eval()
    return super().train(mode)
""",
            """
def train(self, mode=True):
    self.encoder.eval()
    return self
""",
        ],
    ),
    ("02_dropout", "A"): (
        [
            """
if self.p == 1 and self.training:
    return torch.zeros_like(x) * x
""",
            """
if self.training and self.p >= 1:
    return F.dropout(x, 1.0)
""",
        ],
        [
            """
if self.p == 1:
    return x * 0
""",
            """
if self.training and self.p == 1:
    return torch.zeros_like(x)
""",
            """
if self.training:
    return F.dropout(x, 1.0)
""",
        ],
    ),
    ("02_dropout", "B"): (
        ["p_single = 0.5 + 0.2 - 0.5 * 0.2", "p_single = 3 / 5"],
        ["p_single = 0.5 + 0.2", "p_single = 0.5 * 0.2", "p_single = (0.5 + 0.2) / 2"],
    ),
    ("03_batch_norm", "A"): (
        [
            """
twin = copy.deepcopy(model)
torch.manual_seed(1)
first = twin(x)[0].detach()
twin = copy.deepcopy(model)
torch.manual_seed(1)
return bool((first - twin(torch.cat([x[:1], -x[1:]]))[0]).abs().max() > 1e-5)
""",
            """
def first_row(rows):
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        return copy.deepcopy(model)(rows)[0]
return not torch.allclose(first_row(x), first_row(torch.cat([x[:1], x[1:].flip(0) + 1])))
""",
        ],
        [
            "return not torch.allclose(model(x[:2])[0], model(x)[0])",
            """
model.eval()
return not torch.allclose(model(x[:2])[0], model(x)[0])
""",
            """
other = torch.cat([x[:1], x[1:] * 0.5])
return not torch.allclose(model(x)[0], copy.deepcopy(model)(other)[0])
""",
        ],
    ),
    ("03_batch_norm", "B"): (
        [
            """
b = norm(torch.zeros(1, 64))[0].detach()
a = norm(torch.ones(1, 64))[0].detach() - b
""",
            """
scale = torch.rsqrt(norm.running_var + norm.eps)
a, b = scale * norm.weight, norm.bias - scale * norm.running_mean * norm.weight
""",
        ],
        [
            "a, b = norm.weight, norm.bias",
            """
a = norm.weight / norm.running_var
b = norm.bias - a * norm.running_mean
""",
            """
a = norm.weight / (norm.running_var + norm.eps).sqrt()
b = norm.bias - norm.running_mean
""",
        ],
    ),
    ("04_every_layer", "A"): (
        [
            """
found, twin = [], copy.deepcopy(model)
for (name, child), other in zip(twin.eval().named_children(), copy.deepcopy(model)):
    after = call(child, x)
    if not torch.allclose(call(other.train(), x), after, atol=1e-5):
        found.append(name)
    x = after
return found
""",
            """
model = copy.deepcopy(model)
names = set()
for index, child in enumerate(model):
    untouched = copy.deepcopy(child).eval()
    if differs(child, x):
        names.add(str(index))
    with torch.no_grad():
        x = untouched(x)
return sorted(names)
""",
        ],
        [
            """
names = []
for name, child in model.named_children():
    if differs(child, x):
        names.append(name)
    x = call(child.eval(), x)
return names
""",
            "return [name for name, child in model.named_children() if child.training]",
            """
names = []
for name, child in copy.deepcopy(model).named_children():
    x = call(child.train(), x)
    if is_random(child, x):
        names.append(name)
return names
""",
        ],
    ),
    ("04_every_layer", "B"): (
        [
            """
settings = {"dropout": 0.9, "batch_first": True}
settings.update(without)
return nn.MultiheadAttention(8, 2, **settings)
""",
            """
layer = nn.MultiheadAttention(8, 2, batch_first=True)
layer.dropout = without.get("dropout", 0.3)
return layer
""",
        ],
        [
            "return nn.MultiheadAttention(8, 2, batch_first=True)",
            "return nn.MultiheadAttention(8, 2, bias=False, batch_first=True)",
            "return nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)",
        ],
    ),
    ("05_three_switches", "A"): (
        [
            """
for layer in model[: 2 * count]:
    for parameter in layer.parameters():
        parameter.requires_grad = False
""",
            """
linear = [layer for layer in model if hasattr(layer, "weight")]
for index in range(count):
    linear[index].requires_grad_(False)
""",
        ],
        [
            "model.eval()",
            """
for layer in model[:count]:
    layer.eval()
""",
            """
for layer in list(model)[::-1][: 2 * count]:
    layer.requires_grad_(False)
""",
        ],
    ),
    ("05_three_switches", "B"): (
        [
            """
def forward(self, x):
    if self.positions is None or self.positions.is_inference() and torch.is_grad_enabled():
        self.positions = torch.linspace(0, 1, 8)
    return x + self.positions * self.scale
""",
            """
def forward(self, x):
    if self.positions is not None and not torch.is_inference_mode_enabled():
        self.positions = self.positions.clone()
    return super().forward(x)
""",
        ],
        [
            """
def forward(self, x):
    with torch.no_grad():
        return super().forward(x)
""",
            """
def __init__(self):
    super().__init__()
    self.positions = torch.linspace(0, 1, 8)
""",
            """
def forward(self, x):
    if self.positions is None:
        with torch.no_grad():
            self.positions = torch.linspace(0, 1, 8)
    return super().forward(x)
""",
        ],
    ),
    ("06_mode_bugs", "A"): (
        [
            """
wrong = "other company"
class RankedMended(Ranked):
    def forward(self, x):
        return torch.stack([row / row.abs().max() for row in x])
""",
            """
class RankedMended(nn.Module):
    def forward(self, x):
        return nn.functional.normalize(x, p=float("inf"), dim=1)
wrong = "other company"
""",
        ],
        [
            """
wrong = "another seed"
class RankedMended(nn.Module):
    def forward(self, x):
        return x / x.abs().amax(1, keepdim=True)
""",
            """
wrong = "other company"
class RankedMended(nn.Module):
    def forward(self, x):
        return x / x.abs().amax(0)
""",
            """
wrong = "other company"
class RankedMended(nn.Module):
    def forward(self, x):
        return x
""",
        ],
    ),
    ("06_mode_bugs", "B"): (
        [
            """
watched.train(False)
for batch in list(loaders.validation)[:3]:
    loss = F.cross_entropy(watched(batch[0]), batch[1])
""",
            """
watched = watched.eval()
[watched(pixels).argmax(1) for pixels, _ in loaders.test]
""",
        ],
        [
            """
for images, _ in loaders.validation:
    watched(images)
""",
            """
watched.eval()
with torch.no_grad():
    for images, _ in loaders.validation:
        watched(images)
""",
            """
watched.eval()
for images, labels in loaders.validation:
    F.cross_entropy(watched(images), labels).backward()
""",
        ],
    ),
    ("07_worse_in_eval", "A"): (
        [
            "import math\nneeded = math.ceil(math.log(0.01) / math.log(0.99))",
            "needed = next(k for k in range(10_000) if 0.99**k < 0.01)",
        ],
        ["needed = 100", "needed = 458", "needed = 44"],
    ),
    ("07_worse_in_eval", "B"): (
        [
            """
for layer in adapted.modules():
    if isinstance(layer, nn.BatchNorm1d):
        layer.reset_running_stats()
        layer.momentum = None
with torch.no_grad():
    adapted.train()(images / 4)
adapted.eval()
""",
            "reestimate(adapted, [part / 4 for part in images.split(200)])",
        ],
        [
            "adapted.eval()",
            "reestimate(adapted, [images])",
            "train(adapted, 50)",
        ],
    ),
    ("08_fine_tuning", "A"): (
        [
            """
for part in model.modules():
    if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
        for parameter in part.parameters():
            parameter.requires_grad = False
            parameter.grad = None
        part.train = lambda mode=True, part=part: part
        part.training = False
""",
            """
norms = [m for m in model.modules() if "BatchNorm" in type(m).__name__]
for norm in norms:
    keep_in_eval(norm)
    for name in ("weight", "bias"):
        getattr(norm, name).requires_grad_(False)
        getattr(norm, name).grad = None
""",
        ],
        [
            """
for layer in model.modules():
    if isinstance(layer, nn.BatchNorm1d):
        layer.eval().requires_grad_(False)
        layer.zero_grad()
""",
            """
for layer in model.modules():
    if isinstance(layer, nn.BatchNorm1d):
        keep_in_eval(layer)
""",
            """
for layer in model.modules():
    if isinstance(layer, nn.BatchNorm1d):
        keep_in_eval(layer).requires_grad_(False)
""",
        ],
    ),
    ("08_fine_tuning", "B"): (
        [
            'frozen_from_the_start, frozen_after_a_backward = "stays", "moves"',
            """
frozen_after_a_backward = one_step_of_mine = "moves"
frozen_from_the_start = "stays" if one_step_of_mine == "moves" else "moves"
""",
        ],
        [
            'frozen_from_the_start = frozen_after_a_backward = "stays"',
            'frozen_from_the_start = frozen_after_a_backward = "moves"',
            'frozen_from_the_start, frozen_after_a_backward = "moves", "stays"',
        ],
    ),
    ("09_reproducible_evaluation", "A"): (
        [
            """
scores = answers(model, x).sort(dim=1, descending=True).values
return sum(1 for row in scores if row[0] - row[1] < 2 * margin)
""",
            """
scores = answers(model, x)
best = scores.max(dim=1)
rest = scores.scatter(1, best.indices.unsqueeze(1), -torch.inf).max(dim=1).values
return (best.values - rest < margin + margin).sum().item()
""",
        ],
        [
            """
best, second = answers(model, x).topk(2, dim=1).values.T
return int((best - second < margin).sum())
""",
            """
scores = answers(model, x)
return int((scores.max(dim=1).values < margin).sum())
""",
            "return len(x)",
        ],
    ),
    ("09_reproducible_evaluation", "B"): (
        [
            """
with torch.random.fork_rng(devices=[]):
    torch.manual_seed(7)
    return noisy(x)
""",
            """
import numpy
rng = numpy.random.default_rng(0)
return x + 0.2 * torch.from_numpy(rng.standard_normal(tuple(x.shape))).to(x.dtype)
""",
        ],
        [
            "return noisy(x)",
            "torch.manual_seed(0)\nreturn noisy(x)",
            "return x.clone()",
        ],
    ),
    ("10_evaluation_loop", "A"): (
        [
            """
with evaluating(model), torch.no_grad():
    errors = torch.cat([squared_errors(model(x), y) for x, y in loader])
return errors.mean().sqrt().item()
""",
            """
parts = []
with torch.inference_mode(), evaluating(model):
    for batch in loader:
        error = squared_errors(model(batch[0]), batch[1])
        parts.append((error.mean().item() * len(error), len(error)))
return (sum(p for p, _ in parts) / sum(n for _, n in parts)) ** 0.5
""",
        ],
        [
            """
with evaluating(model), torch.no_grad():
    roots = [squared_errors(model(x), y).mean().sqrt() for x, y in loader]
return sum(roots).item() / len(roots)
""",
            """
model.eval()
with torch.no_grad():
    errors = torch.cat([squared_errors(model(x), y) for x, y in loader])
return errors.mean().sqrt().item()
""",
            """
with torch.no_grad():
    errors = torch.cat([squared_errors(model(x), y) for x, y in loader])
return errors.mean().sqrt().item()
""",
        ],
    ),
    ("10_evaluation_loop", "B"): (
        [
            """
pixels, digit, _ = batch.values()
return pixels, digit
""",
            'return tuple(batch[key] for key in ("pixels", "digit"))',
        ],
        [
            'return batch["digit"], batch["pixels"]',
            'return batch["pixels"], batch["digit"], batch["weight"]',
            'return batch["pixels"]',
        ],
    ),
    ("11_training_loop", "A"): (
        [
            """
one = evaluate(model, loaders.train, loss=nn.CrossEntropyLoss())
two = evaluate(model, loaders.validation, loss=nn.CrossEntropyLoss())
if one["loss"] > two["loss"]:
    harder = harder + 1
""",
            """
sums, twin = [], copy.deepcopy(model).eval()
for part in (loaders.train, loaders.validation):
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(twin(x), y, reduction="none") for x, y in part]
    sums.append(torch.cat(losses).mean().item())
harder += int(sums[0] > sums[1])
""",
        ],
        [
            """
reported = train_epoch(model, loaders.train, optimizer)
val = evaluate(model, loaders.validation, loss=nn.CrossEntropyLoss())["loss"]
harder += reported > val
""",
            """
one = evaluate(model, loaders.train, loss=nn.CrossEntropyLoss())["loss"]
two = evaluate(model, loaders.validation, loss=nn.CrossEntropyLoss())["loss"]
harder += one < two
""",
            "harder += 0",
        ],
    ),
    ("11_training_loop", "B"): (
        [
            """
settings = {"monitor": "accuracy", "higher_is_better": True, "epochs": 20}
part = loaders.train, loaders.validation
return fit(model, *part, loss=nn.CrossEntropyLoss(), optimizer=optimizer, **settings)
""",
            """
return fit(
    model, loaders.train, loaders.validation, loss=nn.CrossEntropyLoss(), optimizer=optimizer,
    epochs=20, monitor="accuracy", higher_is_better=True,
)
""",
        ],
        [
            """
return fit(
    model, loaders.train, loaders.validation, loss=nn.CrossEntropyLoss(),
    optimizer=optimizer, epochs=20,
)
""",
            """
return fit(
    model, loaders.train, loaders.validation, loss=nn.CrossEntropyLoss(),
    optimizer=optimizer, epochs=20, monitor="accuracy",
)
""",
            """
return fit(
    model, loaders.train, loaders.validation, loss=nn.CrossEntropyLoss(),
    optimizer=optimizer, epochs=5, monitor="accuracy", higher_is_better=True,
)
""",
        ],
    ),
    ("12_how_sure", "A"): (
        [
            """
count = 100
while True:
    found = proportion_interval(int(round(count * high)), count)
    if found.low > low:
        return count
    count = 2 * count
""",
            """
sizes = [100 * 2**k for k in range(12)]
return next(n for n in sizes if proportion_interval(round(n * high), n).low > low)
""",
        ],
        [
            "return 100",
            """
count = 100
while low > wald(round(high * count), count)[0]:
    count *= 2
return count
""",
            """
count = 100
while low in proportion_interval(round(high * count), count):
    count += 100
return count
""",
        ],
    ),
    ("12_how_sure", "B"): (
        [
            "return bootstrap_interval(lambda drawn: drawn.median(), losses, seed=3)",
            """
def middle(drawn):
    return drawn.sort().values[(len(drawn) - 1) // 2]


return bootstrap_interval(middle, losses, resamples=300)
""",
        ],
        [
            "return mean_interval(losses)",
            "return bootstrap_interval(torch.mean, losses)",
            "return losses.median()",
        ],
    ),
    ("13_many_processes", "A"): (
        [
            """
each = (count + size - 1) // size
return each * size - count
""",
            """
rest = count % size
return size - rest if rest else 0
""",
        ],
        [
            "return count % size",
            "return size - count % size",
            "return size - 1",
        ],
    ),
    ("13_many_processes", "B"): (
        [
            """
total = sum(counts)
mean = sum(n * m for n, m in zip(counts, means)) / total
within = sum(n * v for n, v in zip(counts, variances)) / total
between = sum(n * (m - mean) ** 2 for n, m in zip(counts, means)) / total
return mean, within + between
""",
            """
weights = counts.double() / counts.sum()
mean = weights @ means
return mean, weights @ (variances + (means - mean) ** 2)
""",
        ],
        [
            "return means.mean(), variances.mean()",
            """
share = counts / counts.sum()
return (share * means).sum(), (share * variances).sum()
""",
            """
mean = means.mean()
return mean, (variances + means**2).mean() - mean**2
""",
        ],
    ),
    ("14_export", "A"): (
        [
            """
flatten, linear, norm, *rest = copy.deepcopy(net).eval()
scale = norm.weight / (norm.running_var + norm.eps).sqrt()
with torch.no_grad():
    linear.bias.copy_((linear.bias - norm.running_mean) * scale + norm.bias)
    linear.weight.mul_(scale[:, None])
return nn.Sequential(flatten, linear, *rest)
""",
            """
layers = list(copy.deepcopy(net).eval())
layers[1:3] = [fuse_linear_bn_eval(layers[1], layers[2])]
return nn.Sequential(*layers)
""",
        ],
        [
            "return nn.Sequential(net[0], fuse_linear_bn_eval(net.eval()[1], net[2]), *net[3:])",
            "return copy.deepcopy(net).eval()",
            "return nn.Sequential(*[part for part in copy.deepcopy(net) if part is not net[2]][:2])",
        ],
    ),
    ("14_export", "B"): (
        [
            """
from utils.modes import evaluating

with evaluating(copy.deepcopy(model)) as ready:
    return torch.export.export(ready, (x,), dynamic_shapes={"input": {0: torch.export.Dim.AUTO}})
""",
            """
another = copy.deepcopy(model)
another.eval()
return exported(another, x)
""",
        ],
        [
            "return exported(model.eval(), x)",
            "return export(copy.deepcopy(model).eval(), (x,))",
            "return exported(copy.deepcopy(model), x)",
        ],
    ),
    ("15_serving", "A"): (
        [
            """
from utils.modes import mode_of

if mode_of(model) != "eval":
    raise RuntimeError("not in eval mode")
with torch.no_grad():
    return model(x).detach()
""",
            """
@torch.inference_mode()
def run():
    return model(x)


for name, module in model.named_modules():
    if module.training:
        raise RuntimeError(f"{name} is in train mode")
return run()
""",
        ],
        [
            """
with torch.inference_mode():
    return model(x)
""",
            """
if model.training:
    raise RuntimeError("in train mode")
with torch.inference_mode():
    return model(x)
""",
            """
with evaluating(model), torch.no_grad():
    return model(x)
""",
        ],
    ),
    ("15_serving", "B"): (
        [
            """
groups, size = [[]], 0
for request in requests:
    if size + len(request) > largest:
        groups.append([])
        size = 0
    groups[-1].append(request)
    size += len(request)
return [
    part
    for group in groups if group
    for part in model(torch.cat(group)).detach().split(list(map(len, group)))
]
""",
            """
out, i = [], 0
while i < len(requests):
    j = i + 1
    while j < len(requests) and sum(len(r) for r in requests[i : j + 1]) <= largest:
        j += 1
    out.extend(scores_of(model, torch.cat(requests[i:j])).split([len(r) for r in requests[i:j]]))
    i = j
return out
""",
        ],
        [
            "return [scores_of(model, request) for request in requests]",
            "return list(scores_of(model, torch.cat(requests)).split([len(r) for r in requests]))",
            "return [scores_of(model, part) for part in torch.cat(requests).split(largest)]",
        ],
    ),
    ("16_monte_carlo_dropout", "A"): (
        [
            """
with only_dropout(model), torch.no_grad():
    return torch.stack([model(x) for _ in range(draws)])
""",
            """
flags = {m: m.training for m in model.modules()}
for module in flags:
    module.training = isinstance(module, nn.Dropout)
try:
    with torch.inference_mode():
        answers = model(torch.cat([x] * draws)).view(draws, len(x), -1)
finally:
    for module, flag in flags.items():
        module.training = flag
return answers.clone()
""",
        ],
        [
            """
model.train()
with torch.no_grad():
    return torch.stack([model(x) for _ in range(draws)])
""",
            """
usual_recipe(model)
with torch.no_grad():
    return torch.stack([model(x) for _ in range(draws)])
""",
            """
model.eval()
with torch.no_grad():
    answers = torch.stack([model(x) for _ in range(draws)])
model.train()
return answers
""",
        ],
    ),
    ("16_monte_carlo_dropout", "B"): (
        [
            """
doubt = mutual_information(probabilities)
return doubt.topk(int(share * len(doubt) + 0.5)).indices
""",
            """
doubt = mutual_information(probabilities).tolist()
order = sorted(range(len(doubt)), key=lambda i: -doubt[i])
return order[: round(share * len(order))]
""",
        ],
        [
            "return mutual_information(probabilities).argsort()[: round(share * probabilities.shape[1])]",
            "return predictive_entropy(probabilities).argsort(descending=True)[:36]",
            "return mutual_information(probabilities) > share",
        ],
    ),
    ("17_adapting_batch_norm", "A"): (
        [
            """
adapted = copy.deepcopy(model).eval()
for layer in batch_norms(adapted):
    layer.train()
optimizer = torch.optim.Adam(
    [p for layer in batch_norms(adapted) for p in (layer.weight, layer.bias)], lr=lr
)
for _ in range(steps):
    loss = entropy(adapted(x))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
return adapted(x).detach()
""",
            """
adapted = tent(model, [x] * steps, lr)[1] if steps else own_statistics(model)
with torch.inference_mode():
    return adapted(x)
""",
        ],
        [
            """
for layer in batch_norms(model):
    layer.train()
optimizer = torch.optim.Adam(model.parameters(), lr=lr)
for _ in range(steps):
    optimizer.zero_grad()
    entropy(model(x)).backward()
    optimizer.step()
return model(x).detach()
""",
            """
adapted = own_statistics(model)
optimizer = torch.optim.Adam(adapted.parameters(), lr=lr)
for _ in range(steps):
    entropy(adapted(x)).backward()
return adapted(x).detach()
""",
            """
adapted = copy.deepcopy(model)
optimizer = torch.optim.Adam(adapted.parameters(), lr=lr)
for _ in range(steps):
    optimizer.zero_grad()
    entropy(adapted(x)).backward()
    optimizer.step()
return adapted(x).detach()
""",
        ],
    ),
    ("17_adapting_batch_norm", "B"): (
        [
            "rows = torch.cat(list(stream))\nreturn rows.mean(dim=0), rows.var(dim=0)",
            """
count, mean, squares = 0, None, None
for batch in stream:
    for row in batch:
        count += 1
        if mean is None:
            mean, squares = row.clone(), torch.zeros_like(row)
            continue
        gap = row - mean
        mean = mean + gap / count
        squares = squares + gap * (row - mean)
return mean, squares / (count - 1)
""",
        ],
        [
            """
batches = list(stream)
means = torch.stack([x.mean(dim=0) for x in batches])
variances = torch.stack([x.var(dim=0) for x in batches])
return means.mean(dim=0), variances.mean(dim=0)
""",
            """
n, total, squares = 0, 0.0, 0.0
for x in stream:
    n += len(x)
    total = total + x.sum(dim=0)
    squares = squares + x.var(dim=0, correction=0) * len(x)
return total / n, squares / (n - 1)
""",
            """
n, total, squares = 0, 0.0, 0.0
for x in stream:
    n += len(x)
    total = total + x.sum(dim=0)
    squares = squares + x.square().sum(dim=0)
mean = total / n
return mean, squares / n - mean.square()
""",
        ],
    ),
}
