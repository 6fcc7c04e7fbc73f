"""Answers as text, and back: numbers, strings, lists, dictionaries, tensors; nothing that runs."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import torch

DTYPES = (
    "bool", "uint8", "int8", "int16", "int32", "int64",
    "bfloat16", "float16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip
LARGEST = 2_000_000
"""Most values in one tensor."""


def to_plain(value: Any) -> Any:
    """What JSON can hold for a value; for any other kind, the name of its type."""
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        if tensor.numel() > LARGEST:
            return {"kind": "other", "type": f"tensor of {tensor.numel()} values"}
        dtype = str(tensor.dtype).removeprefix("torch.")
        numbers = tensor.float() if dtype in ("bfloat16", "float16") else tensor
        data = base64.b64encode(np.ascontiguousarray(numbers.numpy()).tobytes()).decode()
        held = str(numbers.dtype).removeprefix("torch.")
        shape = list(tensor.shape)
        return {"kind": "tensor", "dtype": dtype, "held": held, "shape": shape, "data": data}
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return {"kind": "list", "items": [to_plain(item) for item in value]}
    if isinstance(value, dict):
        items = [[str(key), to_plain(item)] for key, item in value.items()]
        return {"kind": "dict", "items": items}
    return {"kind": "other", "type": type(value).__name__}


def from_plain(value: Any) -> Any:
    """The value again; raises ValueError on text that `to_plain` did not write."""
    if not isinstance(value, dict):
        return value
    try:
        if value["kind"] == "tensor":
            shape, held, dtype = value["shape"], value["held"], value["dtype"]
            if held not in DTYPES or dtype not in DTYPES or len(shape) > 8:
                raise ValueError(f"a tensor of {dtype!r} in {len(shape)} dimensions")
            array = np.frombuffer(base64.b64decode(value["data"]), dtype=held)
            tensor = torch.from_numpy(array.copy()).reshape(shape)
            return tensor.to(getattr(torch, dtype))
        if value["kind"] == "list":
            return [from_plain(item) for item in value["items"]]
        if value["kind"] == "dict":
            return {key: from_plain(item) for key, item in value["items"]}
        return Other(str(value["type"]))
    except Exception as error:  # whatever a stranger has written there
        raise ValueError(f"not an answer: {error}") from error


class Other:
    """A value that was of no use as an answer, a function for instance."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
