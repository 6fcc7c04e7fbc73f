"""The HTTP service: ``uvicorn --factory examples.serving.service:from_environment``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import torch
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field, ValidationError

from .batching import Batcher, Overloaded
from .loading import NotFitToServe, load

LARGEST_BODY = 256 * 1024
"""Bytes of a request; 64 images written out take about 80,000."""
SECONDS_FOR_A_BODY = 5.0
SECONDS_FOR_AN_ANSWER = 5.0

Pixel = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
Row = Annotated[list[Pixel], Field(min_length=8, max_length=8)]
Image = Annotated[list[Row], Field(min_length=8, max_length=8)]


class Images(BaseModel, extra="forbid"):
    """What is asked: images of 8 by 8 pixels from 0 (paper) to 1 (ink)."""

    images: Annotated[list[Image], Field(min_length=1, max_length=64)]


class Answers(BaseModel):
    """What is answered: for each image the digit, and the scores of all ten."""

    digits: list[int]
    scores: list[list[float]]
    version: str


def create_app(checkpoint: Path, *, longest_queue: int = 1024) -> FastAPI:
    """Make the service for a checkpoint. It starts without a model that is fit, and says so.

    Parameters
    ----------
    checkpoint
        Made by :func:`examples.serving.loading.save`. ``SIGHUP`` loads it anew.
    longest_queue
        Images that may wait for their turn.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        # One thread loads and answers: the audit sets global switches, between two batches.
        thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        app.state.batcher, app.state.reason = None, "no model is loaded"

        async def reload() -> None:
            """Load the checkpoint; a bad one leaves what is served as it is."""
            try:
                served = await loop.run_in_executor(thread, load, checkpoint)
            except NotFitToServe as error:
                app.state.reason = str(error)
                return
            app.state.reason = ""
            if app.state.batcher is None:
                app.state.batcher = Batcher(served, thread, longest_queue=longest_queue)
            else:
                app.state.batcher.replace(served)

        app.state.reload = reload
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError, AttributeError):
            loop.add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(reload()))
        await reload()
        # What was imported stays: without this, a full collection looks at it again every few
        # thousand requests, and all who wait meanwhile wait a fifth of a second longer.
        gc.collect()
        gc.freeze()
        yield
        gc.unfreeze()
        if app.state.batcher is not None:
            await app.state.batcher.close()
        thread.shutdown()

    app = FastAPI(title="Digits", lifespan=lifespan)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        """There is a model that is fit to serve."""
        if app.state.batcher is None:
            raise HTTPException(503, app.state.reason)
        last = {"last_reload": app.state.reason} if app.state.reason else {}
        return {"status": "ready", "version": app.state.batcher.served.version, **last}

    @app.post("/predict")
    async def predict(request: Request) -> Answers:
        """Answer images, together with those of other requests."""
        asked = _parse(await _body(request))
        if app.state.batcher is None:
            raise HTTPException(503, app.state.reason)
        images = torch.tensor(asked.images, dtype=torch.float32).unsqueeze(1)
        try:
            async with asyncio.timeout(SECONDS_FOR_AN_ANSWER):
                scores, version = await app.state.batcher.scores(images)
        except Overloaded:
            raise HTTPException(503, "too many requests wait", {"Retry-After": "1"}) from None
        except TimeoutError:
            raise HTTPException(504, "no answer in time") from None
        return Answers(
            digits=scores.argmax(dim=1).tolist(), scores=scores.tolist(), version=version
        )

    return app


async def _body(request: Request) -> bytes:
    """Read a body, not more than is allowed and not longer than is allowed."""
    body = b""
    try:
        async with asyncio.timeout(SECONDS_FOR_A_BODY):
            async for part in request.stream():
                body += part
                if len(body) > LARGEST_BODY:
                    raise HTTPException(413, f"the body has more than {LARGEST_BODY} bytes")
    except TimeoutError:
        raise HTTPException(408, "the body did not come in time") from None
    return body


def _parse(body: bytes) -> Images:
    try:
        return Images.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(
            f"[{part}]" if isinstance(part, int) else str(part) for part in first["loc"]
        )
        raise HTTPException(422, f"{place or 'body'}: {first['msg']}") from None


def from_environment() -> FastAPI:
    """The service for the checkpoint that ``CHECKPOINT`` names."""
    return create_app(Path(os.environ["CHECKPOINT"]))
