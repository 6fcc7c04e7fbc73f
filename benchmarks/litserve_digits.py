"""The example's model behind LitServe, for `benchmarks.serving`: largest batch and port to say."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import litserve
import torch
from torch import Tensor

from examples.serving.loading import load


class Digits(litserve.LitAPI):  # type: ignore[misc]
    """What `examples.serving` answers, without its checks of what is asked."""

    def setup(self, device: str) -> None:
        """Load the checkpoint, in the process that answers."""
        torch.set_num_threads(1)
        self.served = load(Path(os.environ["CHECKPOINT"]))

    # LitServe takes an annotation of `request` for the schema of a query.
    def decode_request(self, request) -> Tensor:  # type: ignore[no-untyped-def]
        """Images of a request, of shape ``(N, 1, 8, 8)``."""
        return torch.tensor(request["images"], dtype=torch.float32).unsqueeze(1)

    def batch(self, inputs: list[Tensor]) -> Tensor:
        """Put requests together."""
        self.sizes = [len(images) for images in inputs]
        return torch.cat(inputs)

    def predict(self, images: Tensor) -> Tensor:
        """Answer them."""
        return self.served.scores(images)

    def unbatch(self, scores: Tensor) -> tuple[Tensor, ...]:
        """Take the answers apart."""
        return scores.split(self.sizes)

    def encode_response(self, scores: Tensor) -> dict[str, Any]:
        """Write an answer as the example does."""
        return {"digits": scores.argmax(dim=1).tolist(), "scores": scores.tolist()}


if __name__ == "__main__":
    largest_batch, port = map(int, sys.argv[1:])
    api = Digits(max_batch_size=largest_batch, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, log_level="error", generate_client_file=False)
