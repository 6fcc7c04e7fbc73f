"""The example service beside LitServe on the same model and load, and beside the bare model."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

from benchmarks.interleaved import report
from examples.serving.loading import load, save
from utils.data import digits
from utils.trained import trained_digits_mlp

CLIENTS, REQUESTS, LARGEST_BATCH = 64, 4_000, 64


@contextmanager
def _running(arguments: list[str], port: int, checkpoint: Path) -> Iterator[None]:
    """A server as a process, once it answers a request; stopped afterwards."""
    with subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CHECKPOINT": str(checkpoint)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            asyncio.run(asyncio.wait_for(_until_it_answers(port), 60))
            yield
        finally:
            server.terminate()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _request() -> bytes:
    image = digits().test.tensors[0][:1].squeeze(1).tolist()
    body = json.dumps({"images": image}).encode()
    head = (
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _answer(reader: asyncio.StreamReader) -> int:
    """Read one answer, and return its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


async def _until_it_answers(port: int) -> None:
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_request())
            status = await _answer(reader)
            writer.close()
            if status == 200:
                return
        except (OSError, asyncio.IncompleteReadError):
            pass
        await asyncio.sleep(0.1)


async def _load(port: int) -> tuple[float, float]:
    """Seconds a request and the 99th percentile of waiting, with so many clients at once."""
    request, waited, left = _request(), [], iter(range(REQUESTS))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in left:
            start = time.perf_counter()
            writer.write(request)
            if await _answer(reader) != 200:
                raise RuntimeError(f"the server on port {port} refused a request")
            waited.append(time.perf_counter() - start)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return (time.perf_counter() - start) / REQUESTS, quantiles(waited, n=100)[-1]


def _bare(checkpoint: Path) -> float:
    served, images = load(checkpoint), digits().test.tensors[0][:LARGEST_BATCH].float()
    start = time.perf_counter()
    for _ in range(200):
        served.scores(images)
    return (time.perf_counter() - start) / (200 * LARGEST_BATCH)


def run() -> list[str]:
    """Compare the two services, round by round; LitServe takes part where it is installed."""
    if importlib.util.find_spec("litserve") is None:
        print("\nServing: LitServe is not installed, see benchmarks/requirements.txt")
        return []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "model.pt")
        save(trained_digits_mlp(epochs=1)[0], digits().test.tensors[0][:8], checkpoint)
        ours, theirs = _free_port(), _free_port()
        uvicorn = ["uvicorn", "--factory", "examples.serving.service:from_environment"]
        litserve = ["benchmarks.litserve_digits", str(LARGEST_BATCH), str(theirs)]
        with (
            _running([*uvicorn, "--port", str(ours), "--log-level", "error"], ours, checkpoint),
            _running(litserve, theirs, checkpoint),
        ):
            asyncio.run(_load(ours)), asyncio.run(_load(theirs))
            rounds = [(asyncio.run(_load(ours)), asyncio.run(_load(theirs))) for _ in range(5)]
        bare = _bare(checkpoint)
    seconds = median(a[0] for a, _ in rounds)
    measured = {
        "LitServe": 1.0,
        "this example, seconds a request": median(a[0] / b[0] for a, b in rounds),
        "this example, 99th percentile": median(a[1] / b[1] for a, b in rounds),
    }
    print(
        f"\n{1 / seconds:,.0f} requests a second by the example; "
        f"{1 / bare:,.0f} images a second by the bare model, {LARGEST_BATCH} in a batch"
    )
    return report(
        f"Serving, {CLIENTS} clients at once",
        "LitServe",
        measured,
        dict.fromkeys(list(measured)[1:], 1.0),
    )
