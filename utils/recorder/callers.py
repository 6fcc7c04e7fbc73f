"""From a stack of frames to the line of the user's own program that called a model."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from functools import cache
from glob import glob
from types import CodeType, FrameType
from typing import NamedTuple

import torch
from torch import nn

from .comments import is_declared
from .report import Place

COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
TORCH_FOLDER = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep


class Caller(NamedTuple):
    """Who called a module.

    Attributes
    ----------
    file, line
        The innermost line outside PyTorch, which tells phases apart.
    where
        The first line of the user's own code, which a finding names.
    purpose
        What a function of PyTorch on the way called it for: ``"statistics"``, ``"checkpoint"``,
        or ``""``.
    on_purpose
        Whether a comment on the line, or alone on the one above, declares it.
    """

    file: str
    line: int
    where: Place
    purpose: str
    on_purpose: bool


class CallerFinder:
    """Finds callers, each line once.

    Examples
    --------
    >>> CallerFinder().find(sys._getframe()).where.line
    1
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[CodeType, Caller]] = {}
        self._callers: dict[Caller, Caller] = {}

    def find(self, frame: FrameType) -> Caller:
        """Say who called, given the frame in which the call stands."""
        at = id(frame.f_code), frame.f_lasti
        known = self._known.get(at)
        if known is not None:
            return known[1]
        code, caller = _look_up(frame)
        caller = self._callers.setdefault(caller, caller)  # equal ones are one object
        if code is frame.f_code and not caller.purpose and not is_library(caller.file):
            self._known[at] = code, caller  # which holds the code, so that its id stays its own
        return caller


def _look_up(start: FrameType) -> tuple[CodeType, Caller]:
    caller: FrameType | None = None
    wrapper: FrameType | None = None
    purpose = ""
    frame: FrameType | None = start
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith((TORCH_FOLDER, OWN_FOLDER)):
            purpose = _purpose_of(frame.f_code) or purpose
        elif _is_forward(frame):
            wrapper = wrapper or frame
        elif caller is None:
            caller = frame
            if not is_library(file):
                break
        elif not is_library(file):
            break
        frame = frame.f_back
    if caller is None:
        caller = frame or wrapper or start
    user = frame or caller
    around = user
    while around.f_code.co_name in COMPREHENSIONS and around.f_back is not None:
        around = around.f_back
    file, line = user.f_code.co_filename, user.f_lineno
    named = "<cell>" if "ipykernel" in file else file
    return caller.f_code, Caller(
        caller.f_code.co_filename,
        caller.f_lineno,
        Place(named, line, around.f_code.co_name),
        purpose,
        is_declared(file, line),
    )


def _purpose_of(code: CodeType) -> str:
    if code.co_name == "update_bn":
        return "statistics"
    if code.co_filename.endswith("checkpoint.py") and code.co_name == "forward":
        return "checkpoint"  # the reentrant kind, which runs without gradients
    return ""


def _is_forward(frame: FrameType) -> bool:
    """Whether it is the ``forward`` of a module around the one that is watched."""
    name = frame.f_code.co_name
    return name in ("forward", "__call__") and isinstance(frame.f_locals.get("self"), nn.Module)


@cache
def is_library(file: str) -> bool:
    """Whether a file belongs to Python, to an installed package or to this one."""
    return file.startswith(("<frozen", *_library_folders()))


@cache
def _library_folders() -> frozenset[str]:
    folders = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
    folders |= {*site.getsitepackages(), site.getusersitepackages()}
    # Packages installed elsewhere (pip install --target) stand beside their .dist-info.
    folders |= {folder for folder in sys.path if glob(os.path.join(folder, "*.dist-info"))}
    found = {os.path.abspath(folder) + os.sep for folder in folders if folder}
    return frozenset(found) | {OWN_FOLDER}
