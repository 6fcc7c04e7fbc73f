"""Requests answered together: what has come while the last batch was computed is the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Executor

import torch
from torch import Tensor

from .loading import Served


class Overloaded(Exception):
    """The queue is full: better to say so at once than to answer too late."""


class Batcher:
    """Collects requests and runs the model on them, one batch at a time, in one thread.

    Parameters
    ----------
    served
        The model to begin with; :meth:`replace` puts another in its place, between two batches.
    thread
        Where the model runs.
    largest_batch
        Images in a batch, at most.
    longest_queue
        Images that may wait; more are refused.
    """

    def __init__(
        self,
        served: Served,
        thread: Executor,
        *,
        largest_batch: int = 64,
        longest_queue: int = 1024,
    ) -> None:
        self.thread = thread
        self.served, self.largest_batch, self.longest_queue = served, largest_batch, longest_queue
        self._waiting: deque[tuple[Tensor, asyncio.Future[tuple[Tensor, str]]]] = deque()
        self.images_waiting = 0
        self._arrived = asyncio.Event()
        self._closing = False
        self._task = asyncio.create_task(self._work())

    def replace(self, served: Served) -> None:
        """Serve another model from the next batch on."""
        self.served = served

    async def scores(self, images: Tensor) -> tuple[Tensor, str]:
        """Answer images with the scores of one model, and name its version.

        Raises
        ------
        Overloaded
            If too many wait already, or the service is stopping.
        """
        if self._closing or self.images_waiting + len(images) > self.longest_queue:
            raise Overloaded
        future: asyncio.Future[tuple[Tensor, str]] = asyncio.get_running_loop().create_future()
        self._waiting.append((images, future))
        self.images_waiting += len(images)
        self._arrived.set()
        return await future

    async def close(self) -> None:
        """Take no more, answer those that wait, and stop."""
        self._closing = True
        self._arrived.set()
        await self._task

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting or not self._closing:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            batch = self._take()
            if not batch:
                continue
            served = self.served  # read once: a batch is answered by one model
            images = torch.cat([images for images, _ in batch])
            try:
                scores = await loop.run_in_executor(self.thread, served.scores, images)
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            parts = scores.split([len(images) for images, _ in batch])
            for (_, future), part in zip(batch, parts, strict=True):
                if not future.done():  # or its client has gone
                    future.set_result((part, served.version))

    def _take(self) -> list[tuple[Tensor, asyncio.Future[tuple[Tensor, str]]]]:
        """What fits into one batch, those left out whose client has gone."""
        batch: list[tuple[Tensor, asyncio.Future[tuple[Tensor, str]]]] = []
        count = 0
        while self._waiting and (
            not batch or count + len(self._waiting[0][0]) <= self.largest_batch
        ):
            images, future = self._waiting.popleft()
            self.images_waiting -= len(images)
            if not future.cancelled():
                batch.append((images, future))
                count += len(images)
        return batch
