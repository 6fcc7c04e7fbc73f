"""Right and wrong answers to "Serve without a mode bug", for the tests that the grading is fair."""

CHECK = """
def check(rows):
    if not torch.is_tensor(rows):
        raise ValueError(f"float32 tensor wanted, got {type(rows).__name__}")
    if rows.dtype is not torch.float32:
        raise ValueError(f"float32 wanted, got {rows.dtype}")
    if rows.ndim != 2 or rows.size(1) != FEATURES or rows.size(0) < 1:
        raise ValueError(f"shape (n, {FEATURES}) wanted, got {tuple(rows.shape)}")
    if not torch.isfinite(rows).all():
        raise ValueError("only finite numbers are answered")
"""
CHECKED_FIRST = {
    "load": """
def load(source, make_model):
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    state = torch.load(source, map_location="cpu", weights_only=True)
    model = make_model()
    model.load_state_dict(state, strict=True)
    model.eval()
    for p in model.parameters():
        p.requires_grad = False
    return model
""",
    "answer": CHECK
    + """
@torch.inference_mode()
def run(model, rows):
    return model(rows)


def answer(model, rows):
    check(rows)
    for name, module in model.named_modules():
        if module.training:
            raise RuntimeError(f"{name or 'the model'} is in train mode")
    return run(model, rows)
""",
    "batches": """
def in_batches(model, requests, largest):
    out, groups = [], []
    for i, r in enumerate(requests):
        try:
            check(r)
            if len(r) > largest:
                raise ValueError("too many rows")
            out.append(None)
        except ValueError as e:
            out.append(e)
            continue
        if groups and sum(len(requests[k]) for k in groups[-1]) + len(r) <= largest:
            groups[-1].append(i)
        else:
            groups.append([i])
    for group in groups:
        scores = answer(model, torch.cat([requests[k] for k in group]))
        start = 0
        for k in group:
            out[k] = scores[start : start + len(requests[k])]
            start += len(requests[k])
    return out
""",
}
BY_HAND = {
    "load": """
def load(source, make_model):
    if isinstance(source, (bytes, bytearray)):
        file = io.BytesIO(source)
    else:
        file = io.BytesIO(Path(source).read_bytes())
    held = torch.load(file)  # weights_only is the default since 2.6
    model = make_model().requires_grad_(False).train(False)
    missing = model.state_dict().keys() - held.keys()
    if missing:
        raise KeyError(f"the file lacks {missing}")
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(held[name])
    return model
""",
    "answer": """
def problem(rows):
    if getattr(rows, "dtype", None) != torch.float32:
        return f"needs float32 numbers in a tensor of shape (n, {FEATURES}), all finite"
    if tuple(rows.shape[1:]) != (FEATURES,) or not rows.numel():
        return f"needs a float32 tensor of shape (n, {FEATURES}), all finite"
    if (rows.abs() == float("inf")).any() or (rows != rows).any():
        return f"needs a float32 tensor of shape (n, {FEATURES}), all Finite"


def answer(model, rows):
    if (found := problem(rows)) is not None:
        raise ValueError(found)
    if True in [m.training for m in model.modules()]:
        raise RuntimeError("train mode")
    with torch.inference_mode():
        scores = model(rows)
    return scores.clone()
""",
    "batches": """
def in_batches(model, requests, largest):
    answers = {}
    batch, numbers = [], []

    def flush():
        nonlocal batch, numbers
        if batch:
            scores = answer(model, torch.vstack(batch))
            for n, part in zip(numbers, torch.split(scores, [len(b) for b in batch])):
                answers[n] = part.clone()
        batch, numbers = [], []

    for n, request in enumerate(requests):
        found = problem(request)
        if found is None and request.shape[0] > largest:
            found = "too large"
        if found is not None:
            answers[n] = ValueError(found)
            continue
        if sum(map(len, batch)) + len(request) > largest:
            flush()
        batch.append(request)
        numbers.append(n)
    flush()
    return [answers[n] for n in range(len(requests))]
""",
}
ON_A_CLASS = {
    "load": """
def load(source, make_model):
    opened = io.BytesIO(source) if type(source) is bytes else open(source, "rb")
    with opened as file:
        weights = torch.load(file, weights_only=True)
    model = make_model()
    model.load_state_dict(weights, assign=True)
    for module in model.modules():
        module.training = False
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model
""",
    "answer": """
class Door:
    def __call__(self, rows):
        try:
            n, width = rows.shape
            kind = rows.dtype
        except AttributeError:
            raise ValueError("must be a float32 tensor")
        except ValueError:
            raise ValueError(f"must have two dimensions, the second {FEATURES}")
        if kind != torch.float32:
            raise ValueError("must be torch.float32")
        if n == 0 or width != FEATURES:
            raise ValueError(f"must be (n, {FEATURES})")
        if not all(torch.isfinite(row).all() for row in rows):
            raise ValueError("must be finite")
        return rows


door = Door()


def answer(model, rows):
    door(rows)
    if sum(m.training for m in model.modules()):
        raise RuntimeError("not in eval mode")
    with torch.inference_mode(True):
        return model.forward(rows) if False else model(rows)
""",
    "batches": """
def in_batches(model, requests, largest):
    def refused(rows):
        try:
            door(rows)
        except ValueError as error:
            return error
        return None if len(rows) <= largest else ValueError(f"more than {largest} rows")

    errors = [refused(rows) for rows in requests]
    good = [rows for rows, error in zip(requests, errors) if error is None]
    scores = []
    while good:
        rows = 0
        take = 0
        while take < len(good) and rows + len(good[take]) <= largest:
            rows += len(good[take])
            take += 1
        found = answer(model, torch.cat(good[:take]))
        scores.extend(found.split([len(g) for g in good[:take]]))
        good = good[take:]
    scores = iter(scores)
    return [next(scores) if error is None else error for error in errors]
""",
}
# Dear, and right: each request has a copy of the model, under a lock.
COPIES = {
    **CHECKED_FIRST,
    "answer": CHECK
    + """
import copy
import threading

lock = threading.Lock()


def answer(model, rows):
    check(rows)
    with lock, torch.inference_mode():
        if any(module.training for module in model.modules()):
            raise RuntimeError("train mode")
        return copy.deepcopy(model)(rows)
""",
}
RIGHT = {
    "checked first": CHECKED_FIRST,
    "by hand": BY_HAND,
    "on a class": ON_A_CLASS,
    "copies": COPIES,
}


def changed(name, old, new):
    """A cell of the first right answer with one thing in it changed."""
    assert old in CHECKED_FIRST[name]
    return {name: CHECKED_FIRST[name].replace(old, new)}


# What is wrong, and the points that each task loses for it.
WRONG = {
    "no eval() after loading": (changed("load", "    model.eval()\n", ""), {"test-load": 0.5}),
    "only the root in eval mode": (
        changed("load", "model.eval()", "model.training = False"),
        {"test-load": 0.5},
    ),
    "gradients still asked for": (
        changed("load", "p.requires_grad = False", "pass"),
        {"test-load": 0.5},
    ),
    "weights_only=False": (
        changed("load", "weights_only=True", "weights_only=False"),
        {"test-load": 1},
    ),
    "strict=False": (changed("load", "strict=True", "strict=False"), {"test-load": 0.5}),
    "a graph for each answer": (
        changed("answer", "@torch.inference_mode()\n", ""),
        {"test-answer": 1.5},
    ),
    "no_grad and no more": (
        changed("answer", "@torch.inference_mode()", "@torch.no_grad()"),
        {"test-answer": 0.5},
    ),
    "inference mode in the main thread alone": (
        {
            "answer": CHECK
            + """
def answer(model, rows):
    check(rows)
    if any(m.training for m in model.modules()):
        raise RuntimeError("train mode")
    with torch.inference_mode(threading.current_thread() is threading.main_thread()):
        return model(rows)
"""
        },
        {"test-answer": 1.5},
    ),
    "eval() inside answer": (
        changed(
            "answer",
            "raise RuntimeError(f\"{name or 'the model'} is in train mode\")",
            "model.eval()",
        ),
        {"test-answer": 1},
    ),
    "eval() inside answer, and train() after it": (
        {
            "answer": CHECK
            + """
def answer(model, rows):
    check(rows)
    model.eval()
    with torch.inference_mode():
        scores = model(rows)
    model.train()
    return scores
"""
        },
        {"test-answer": 2},
    ),
    "asks the flag of the root alone": (
        changed("answer", "model.named_modules()", '[("", model)]'),
        {"test-answer": 1},
    ),
    "train mode is not looked at": (
        changed("answer", "if module.training", "if False"),
        {"test-answer": 1},
    ),
    "finite is not looked at": (
        changed("answer", "if not torch.isfinite(rows).all()", "if False"),
        {"test-answer": 0.5, "test-batches": 1},
    ),
    "converts what it is given": (
        {
            "answer": CHECK.replace("not torch.is_tensor(rows)", "False")
            .replace("rows.dtype is not torch.float32", "False")
            .replace(
                "def check(rows):", "def check(rows):\n    rows = torch.as_tensor(rows).float()"
            )
            + """
def answer(model, rows):
    check(rows)
    if any(m.training for m in model.modules()):
        raise RuntimeError("train mode")
    with torch.inference_mode():
        return model(torch.as_tensor(rows).float())
"""
        },
        {"test-answer": 0.5, "test-batches": 1},
    ),
    "checks after torch.cat": (
        {
            "batches": """
def in_batches(model, requests, largest):
    answers, batch = [], []
    for request in [*requests, None]:
        full = request is None or sum(map(len, batch)) + len(request) > largest
        if batch and full:
            try:
                answers += answer(model, torch.cat(batch)).split([len(part) for part in batch])
            except (ValueError, RuntimeError) as error:
                answers += [ValueError(str(error))] * len(batch)
            batch = []
        if request is not None:
            batch.append(request)
    return answers
"""
        },
        {"test-batches": 1.5},
    ),
    "one request, one batch": (
        {
            "batches": """
def in_batches(model, requests, largest):
    found = []
    for r in requests:
        try:
            if len(r) > largest:
                raise ValueError("too large")
            found.append(answer(model, r))
        except ValueError as error:
            found.append(error)
    return found
"""
        },
        {"test-batches": 1},
    ),
    "everything in one batch": (
        changed(
            "batches",
            "if groups and sum(len(requests[k]) for k in groups[-1]) + len(r) <= largest",
            "if groups",
        ),
        {"test-batches": 1},
    ),
    "sorted by size, and not put back": (
        changed(
            "batches",
            "    out, groups = [], []",
            "    requests = sorted(requests, key=len)\n    out, groups = [], []",
        ),
        {"test-batches": 2.5},
    ),
}
# Right on the public checks alone.
HARD_CODED = {
    "load": """
def load(source, make_model):
    model = make_model(seed=1)
    model.training = False
    return model
""",
    "answer": "def answer(model, rows):\n    return torch.zeros(len(rows), CLASSES)",
    "batches": "def in_batches(model, requests, largest):\n    return [torch.zeros(len(r), CLASSES) for r in requests]",
}
