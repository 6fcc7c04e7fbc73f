"""The example service, as a client that means harm would use it: over real connections."""

import asyncio
import contextlib
import json
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import torch
import uvicorn
from torch import nn

from examples.serving import service as service_module
from examples.serving.batching import Batcher
from examples.serving.loading import NotFitToServe, Served, load, save
from examples.serving.service import create_app
from utils.data import digits
from utils.trained import trained_digits_mlp

ROOT = Path(__file__).parent.parent
IMAGES = digits().test.tensors[0]


@pytest.fixture(scope="module")
def nets():
    """Two networks that answer otherwise, with settled statistics."""
    made = []
    for seed in (0, 1):
        net, _ = trained_digits_mlp(epochs=3, seed=seed)
        made.append(net.eval())
    return made


@pytest.fixture
def checkpoint(nets, tmp_path):
    save(nets[0], IMAGES[:64], tmp_path / "model.pt")
    return tmp_path / "model.pt"


def offline(net, images):
    with torch.no_grad():
        return net.eval()(images)


@contextlib.contextmanager
def running(app):
    """Serve an app on a free port, in a thread; stop it as SIGTERM would."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive()


class Held:
    """A model that is served, and that waits before each answer."""

    def __init__(self, served, wait):
        self.served, self.version, self.wait = served, served.version, wait

    def scores(self, images):
        self.wait()
        return self.served.scores(images)


def asked(images):
    return {"images": images.squeeze(1).tolist()}


async def many(url, bodies, at_once=32, on_answer=lambda count: None):
    """Send many requests from several clients at a time; answers in order."""
    left, answers = list(enumerate(bodies))[::-1], {}

    async def client():
        async with httpx.AsyncClient(base_url=url, timeout=60) as connection:
            while left:
                number, body = left.pop()
                answers[number] = await connection.post("/predict", json=body)
                on_answer(len(answers))

    await asyncio.gather(*(client() for _ in range(at_once)))
    return [answers[number] for number in sorted(answers)]


def test_thousands_of_requests_at_once_are_answered_as_offline(nets, checkpoint):
    generator = torch.Generator().manual_seed(0)
    parts = [
        IMAGES[torch.randint(360, (int(n),), generator=generator)]
        for n in torch.randint(1, 5, (2000,), generator=generator)
    ]
    with running(create_app(checkpoint)) as url:
        answers = asyncio.run(many(url, map(asked, parts)))
    for part, answer in zip(parts, answers, strict=True):
        assert answer.status_code == 200
        expected = offline(nets[0], part)
        torch.testing.assert_close(
            torch.tensor(answer.json()["scores"]), expected, rtol=1e-4, atol=1e-4
        )
        assert answer.json()["digits"] == expected.argmax(1).tolist()


def bad(**change):
    images = [[[0.5] * 8 for _ in range(8)]]
    for place, value in change.items():
        if place == "pixel":
            images[0][3][4] = value
        elif place == "row":
            images[0][3] = value
        elif place == "images":
            images = value
    return {"images": images}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "body: Invalid JSON"),
        (b"\xff\xfe\x00", "body: Invalid JSON"),
        (b'{"images": [[[NaN]]]}', "images[0][0][0]: Input should be a finite number"),
        (b"[" * 100_000, "body: Invalid JSON"),
        (b'{"images": 3}', "images: Input should be a valid"),
        (b"{}", "images: Field required"),
        (bad(pixel=255), "images[0][3][4]: Input should be less than or equal to 1"),
        (bad(pixel=-0.1), "images[0][3][4]: Input should be greater than or equal to 0"),
        (bad(pixel="0.5"), "images[0][3][4]: Input should be a valid number"),
        (bad(pixel=None), "images[0][3][4]: Input should be a valid number"),
        (bad(row=[0.5] * 7), "images[0][3]: List should have at least 8 items"),
        (bad(images=[]), "images: List should have at least 1 item"),
        (bad(images=[[[0.5] * 8] * 8] * 65), "images: List should have at most 64 items"),
        ({**bad(), "mode": "train"}, "mode: Extra inputs are not permitted"),
    ],
)
def test_what_is_malformed_is_refused_with_its_place(checkpoint, body, said):
    app = create_app(checkpoint)
    given = {"content": body} if isinstance(body, bytes) else {"json": body}
    with running(app) as url:
        refused = httpx.post(f"{url}/predict", **given)
        assert refused.status_code == 422 and refused.json()["detail"].startswith(said)
        assert httpx.post(f"{url}/predict", json=bad()).status_code == 200


@pytest.mark.parametrize("written", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(checkpoint, written):
    body = str(bad(pixel=0.123)).replace("'", '"').replace("0.123", written)
    with running(create_app(checkpoint)) as url:
        assert httpx.post(f"{url}/predict", content=body).status_code == 422


def test_a_huge_body_is_cut_short(checkpoint):
    def in_pieces():
        for _ in range(200):
            yield b"[" * 65536

    with running(create_app(checkpoint)) as url:
        big = httpx.post(f"{url}/predict", content=b" " * 10_000_000)
        assert big.status_code == 413 and "more than 262144 bytes" in big.text
        with contextlib.suppress(httpx.TransportError):  # cut off while it was still sending
            assert httpx.post(f"{url}/predict", content=in_pieces()).status_code == 413
        assert httpx.get(f"{url}/readyz").status_code == 200


def test_a_slow_body_does_not_hold_the_others(checkpoint, monkeypatch):
    monkeypatch.setattr(service_module, "SECONDS_FOR_A_BODY", 1.0)
    with running(create_app(checkpoint)) as url:
        slow = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n{")
        start = time.monotonic()
        assert httpx.post(f"{url}/predict", json=bad()).status_code == 200
        assert time.monotonic() - start < 1
        assert b" 408 " in slow.recv(4096)
        slow.close()


def test_connections_that_are_cut_leave_nothing_behind(nets, checkpoint):
    app = create_app(checkpoint)
    body = str(asked(IMAGES[:4])).replace("'", '"').encode()
    with running(app) as url:
        for length in (0, 10, len(body)) * 20:
            cut = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])))
            head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
            cut.sendall(head % len(body) + body[:length])
            cut.close()
        answer = httpx.post(f"{url}/predict", json=asked(IMAGES[:4])).json()
        expected = offline(nets[0], IMAGES[:4]).argmax(1).tolist()
        assert answer["digits"] == expected and app.state.batcher.images_waiting == 0


def test_load_is_shed_when_too_many_wait(checkpoint):
    app = create_app(checkpoint, longest_queue=64)
    with running(app) as url:
        hold = threading.Event()
        app.state.batcher.replace(Held(app.state.batcher.served, lambda: hold.wait(30)))
        # Nothing is answered while the model is held: the first twenty answers are refusals.
        after_20 = lambda count: hold.set() if count == 20 else None  # noqa: E731
        answers = asyncio.run(many(url, [asked(IMAGES[:16])] * 40, on_answer=after_20))
        codes = [answer.status_code for answer in answers]
        assert set(codes) == {200, 503} and codes.count(503) >= 20
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert refused.headers["retry-after"] == "1"
        assert httpx.post(f"{url}/predict", json=bad()).status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(checkpoint, monkeypatch):
    monkeypatch.setattr(service_module, "SECONDS_FOR_AN_ANSWER", 0.3)
    app = create_app(checkpoint)
    with running(app) as url:
        served = app.state.batcher.served
        app.state.batcher.replace(Held(served, lambda: time.sleep(1)))
        assert httpx.post(f"{url}/predict", json=bad()).status_code == 504
        app.state.batcher.replace(served)
        time.sleep(1)
        assert httpx.post(f"{url}/predict", json=bad()).status_code == 200


def test_a_stop_answers_what_waits(checkpoint):
    app = create_app(checkpoint)
    answers = []
    with running(app) as url:
        app.state.batcher.replace(Held(app.state.batcher.served, lambda: time.sleep(0.5)))
        ask = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/predict", json=bad()))
        )
        ask.start()
        time.sleep(0.2)
    ask.join(10)
    assert [answer.status_code for answer in answers] == [200]


# What is loaded


class Runs:
    """A pickle that does something when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore")  # torch.load warns of what it then refuses
@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_poisoned_checkpoint_is_not_run(checkpoint, tmp_path, how):
    mark = tmp_path / "was run"
    poison = {"weights": Runs(mark), "golden": {}}
    if how == "torch":
        torch.save(poison, checkpoint)
    else:
        checkpoint.write_bytes(pickle.dumps(poison))
    with pytest.raises(NotFitToServe, match=r"model.pt cannot be loaded: UnpicklingError"):
        load(checkpoint)
    with running(create_app(checkpoint)) as url:
        ready = httpx.get(f"{url}/readyz")
        assert ready.status_code == 503 and "cannot be loaded" in ready.json()["detail"]
        assert httpx.post(f"{url}/predict", json=bad()).status_code == 503
        assert httpx.get(f"{url}/healthz").status_code == 200
    assert not mark.exists()
    torch.load(checkpoint, weights_only=False) if how == "torch" else pickle.loads(
        checkpoint.read_bytes()
    )
    assert mark.exists()  # so it would have


def spoil(path, change):
    content = torch.load(path)
    change(content)
    torch.save(content, path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["golden"]["scores"].add_(0.1), "a golden answer is off by 0.1"),
        (lambda c: c["golden"]["scores"].fill_(torch.nan), "a golden answer is off by nan"),
        (lambda c: c["weights"]["1.weight"].mul_(2), "statistics-far-off|a golden answer is off"),
        (lambda c: c["weights"]["2.running_var"].fill_(-1), "non-finite|cannot|golden"),
        (lambda c: c["weights"].pop("1.weight"), "cannot be loaded: RuntimeError"),
        (lambda c: c.pop("golden"), "cannot be loaded: KeyError"),
    ],
)
def test_what_does_not_answer_as_it_should_is_not_served(checkpoint, change, said):
    load(checkpoint)
    spoil(checkpoint, change)
    with pytest.raises(NotFitToServe, match=said):
        load(checkpoint)


def test_a_model_is_in_eval_mode_and_without_gradients_whoever_saved_it(nets, tmp_path):
    save(nets[0].train(), IMAGES[:64], tmp_path / "model.pt")
    served = load(tmp_path / "model.pt")
    assert not any(module.training for module in served.model.modules())
    assert not any(p.requires_grad for p in served.model.parameters())
    assert served.scores(IMAGES[:2]).is_inference()
    nets[0].eval()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
def test_a_reload_under_load_never_mixes_two_models(nets, checkpoint, tmp_path):
    app = create_app(checkpoint)
    with running(app) as url:
        first = app.state.batcher.served.version
        save(nets[1], IMAGES[:64], checkpoint)
        loop = app.state.batcher._task.get_loop()

        under_way = threading.Event()

        def reload_soon():
            under_way.wait(60)
            asyncio.run_coroutine_threadsafe(app.state.reload(), loop).result(30)

        reloading = threading.Thread(target=reload_soon)
        reloading.start()
        parts = [IMAGES[i % 300 : i % 300 + 3] for i in range(1500)]
        after_300 = lambda count: under_way.set() if count == 300 else None  # noqa: E731
        answers = asyncio.run(many(url, map(asked, parts), on_answer=after_300))
        reloading.join()
        second = httpx.get(f"{url}/readyz").json()["version"]
    by_version = {first: nets[0], second: nets[1]}
    seen = {first: 0, second: 0}
    for part, answer in zip(parts, answers, strict=True):
        found = answer.json()
        seen[found["version"]] += 1
        expected = offline(by_version[found["version"]], part)
        torch.testing.assert_close(torch.tensor(found["scores"]), expected, rtol=1e-4, atol=1e-4)
    assert first != second and min(seen.values()) > 0


def test_a_bad_reload_leaves_what_is_served(nets, checkpoint):
    app = create_app(checkpoint)
    with running(app) as url:
        before = httpx.get(f"{url}/readyz").json()["version"]
        checkpoint.write_bytes(b"no checkpoint")
        loop = app.state.batcher._task.get_loop()
        asyncio.run_coroutine_threadsafe(app.state.reload(), loop).result(30)
        ready = httpx.get(f"{url}/readyz").json()
        assert ready["version"] == before and "cannot be loaded" in ready["last_reload"]
        assert httpx.post(f"{url}/predict", json=bad()).status_code == 200


def test_the_command_of_the_readme_starts_it(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "examples.serving", tmp_path / "m.pt"], cwd=ROOT, check=True
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        "--port",
        str(port),
        "--log-level",
        "error",
    ]
    server = subprocess.Popen(
        [*command, "examples.serving.service:from_environment"],
        cwd=ROOT,
        env={**os.environ, "CHECKPOINT": str(tmp_path / "m.pt")},
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.2)
        answer = httpx.post(f"http://127.0.0.1:{port}/predict", json=bad())
        assert answer.status_code == 200
        version = answer.json()["version"]
        save(nn.Sequential(*trained_digits_mlp(epochs=1)[0]), IMAGES[:64], tmp_path / "m.pt")
        server.send_signal(signal.SIGHUP)
        while time.monotonic() < deadline:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").json()["version"] != version:
                break
            time.sleep(0.1)
        else:
            raise AssertionError("SIGHUP did not load the checkpoint anew")
        server.send_signal(signal.SIGTERM)
        assert server.wait(15) in (0, -signal.SIGTERM)
    finally:
        server.kill()


def test_a_model_that_raises_stop_iteration_answers_with_an_error():
    """In a future of asyncio it would be lost, and the batch would wait for ever."""
    without_parameters = nn.Flatten()
    without_parameters.forward = lambda images: next(without_parameters.parameters())

    async def ask():
        with ThreadPoolExecutor(1) as thread:
            batcher = Batcher(Served(without_parameters, "1"), thread)
            return await asyncio.wait_for(batcher.scores(IMAGES[:1]), timeout=10)

    with pytest.raises(RuntimeError, match="raised StopIteration"):
        asyncio.run(ask())


def test_the_steps_of_the_image_run_in_a_folder_that_holds_what_it_copies(tmp_path):
    """No Docker here: the packages are pinned, the checkpoint is made, the command serves."""
    recipe = (ROOT / "examples/serving/Dockerfile").read_text().replace("\\\n", " ")
    pinned = (ROOT / "requirements.txt").read_text()
    packages = re.search(r"\^\(([\w|-]+)\)==", recipe)[1].split("|")
    assert all(re.search(rf"^{name}==", pinned, re.MULTILINE) for name in packages)
    for source, target in re.findall(r"^COPY (\S+) (\S+)$", recipe, re.MULTILINE):
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / target)
    make = re.search(r"^RUN python (-m .*?) &&", recipe, re.MULTILINE)[1]
    subprocess.run([sys.executable, *make.split()], cwd=tmp_path, check=True)
    command = json.loads(re.search(r"^CMD (\[.*\])$", recipe, re.MULTILINE)[1])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", *command, "--port", str(port)],
        cwd=tmp_path,
        env={**os.environ, "CHECKPOINT": str(tmp_path / "model.pt")},
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            time.sleep(0.2)
        else:
            raise AssertionError("the image's command does not become ready")
    finally:
        server.terminate()
        server.wait(15)
