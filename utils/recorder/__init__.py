"""Is the loop around a model right? Recorded while it runs, a framework's loop too.

In a shell, around a program that nobody edits::

    evalmode record train.py --epochs 2

In a test suite, or in a notebook::

    with record(model) as recording:
        train(model)
    recording.raise_for_findings()
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from ..arguments import check_module
from ..findings import first_few
from . import interception
from .declarations import Declarations, unused
from .forwards import ForwardLog
from .model_map import ModelMap
from .phases import frozen_parts_inside, phases_of
from .report import LoopFinding, Phase, Place, Recording
from .verdicts import Evidence, judge

__all__ = ["LoopFinding", "Phase", "Place", "Recording", "record"]


@contextmanager
def record(model: nn.Module, *, on_purpose: Iterable[str] = ()) -> Iterator[Recording]:
    """Watch a training program and report where it uses the wrong mode.

    The program is left as it is: same numbers, same modes. Forwards of the model, or of a part
    of it that is called from outside, are noted with the line that called it, the modes of the
    layers that listen, the gradient mode, and what became of the output.

    A line whose mode is meant, a rollout or a teacher in train mode, is declared by the comment
    ``# evalmode: on purpose`` on it or alone on the line above; what would be found there is
    listed as declared, and a declaration that nothing needs is said.

    Parameters
    ----------
    model
        The model that the program trains or evaluates. Modules that are added to it later, and
        calls from other threads, are not watched; ``notes`` say so where it happens.
    on_purpose
        Lines that are declared without a comment: ``"train.py:30"``, or the name of a function.

    Yields
    ------
    Recording
        Complete when the block ends, also if it ends with an error.

    Raises
    ------
    TypeError
        If ``model`` is not a module.

    See Also
    --------
    utils.audit.audit : Asks whether the model itself is right.

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    >>> with record(net) as recording:
    ...     with torch.no_grad():
    ...         _ = net(torch.ones(4, 2))
    >>> [finding.kind for finding in recording.findings]
    ['evaluated-in-train-mode']
    >>> recording.phases[0].mode, recording.phases[0].use
    ('train', 'none')
    """
    check_module("model", model)
    recorder = Recorder(model, on_purpose)
    try:
        with recorder as recording:
            yield recording
    finally:
        recorder.recording.notes += unused([recorder.declarations])


class Recorder:
    """Watches one model from ``start`` to ``stop``; :func:`record` as an object.

    Attributes
    ----------
    recording
        Complete after ``stop``.
    model
        The model, by its parts.
    declarations
        Which lines were declared to be on purpose; known after ``stop``.
    """

    among_others = False  # or copies of the model are watched as well

    def __init__(self, model: nn.Module, on_purpose: Iterable[str] = (), name: str = "") -> None:
        self.model = ModelMap(model)
        self.recording = Recording(name or type(model).__name__)
        self._on_purpose = tuple(on_purpose)
        self._log = ForwardLog(self.model)
        self.classes = interception.classes_to_watch(self.model.worth_watching())
        self._failure: Exception | None = None

    def __enter__(self) -> Recording:
        self.start()
        return self.recording

    def __exit__(self, *_: object) -> None:
        self.stop()

    def begin(self, module: nn.Module, args: tuple[Any, ...], frame: FrameType) -> bool:
        """Note a call that begins; whatever goes wrong here is none of the program's business."""
        if self._failure is not None:
            return False
        try:
            return self._log.begin(module, args, frame)
        except Exception as error:
            self._failure = error
            return False

    def end(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Note what a call gave."""
        try:
            self._log.end(args, kwargs, output)
        except Exception as error:
            self._failure = error

    def abandon(self) -> None:
        """Note that a call has ended with an error."""
        self._log.abandon()

    def start(self) -> None:
        """Begin to watch."""
        self._handle = register_optimizer_step_post_hook(self._log.on_optimizer_step)
        self._unwatched = interception.start(self)

    def stop(self, *, midway: bool = False) -> None:
        """Watch no more, and judge what was seen; ``midway`` as in :meth:`ForwardLog.close`."""
        interception.stop(self)
        self._handle.remove()
        self._log.close(midway=midway)
        recording, log = self.recording, self._log
        segments = list(log.segments)
        phases = phases_of(segments)
        recording.phases = list({id(phase): phase for phase in phases.values()}.values())
        recording.bars = [
            (bar.first, bar.forwards, phases[bar.segment]) for bar in log.segments.bars
        ]
        recording.forwards, recording.steps = log.forwards, log.steps
        self.declarations = Declarations(segments, self._on_purpose)
        for finding in judge(Evidence(segments, self.model, log.measured, log.steps)):
            meant = self.declarations(finding)
            (recording.declared if meant else recording.findings).append(finding)
        recording.notes += self._unseen() + frozen_parts_inside(segments, self.model, recording)

    def forget(self) -> None:
        """Hold the model no more; what was recorded stays."""
        del self.model, self._log

    def _unseen(self) -> list[str]:
        """What could not be watched."""
        log, notes = self._log, []
        if self._failure is not None:
            kind = type(self._failure).__name__
            notes.append(f"what came after an error of the recorder's own: {kind}: {self._failure}")
        if self._unwatched:
            names = first_few([cls.__name__ for cls in self._unwatched])
            notes.append(f"calls of {names}: a class that cannot be changed cannot be watched")
        if log.calls_from_other_threads:
            notes.append("calls from another thread than the one that began the recording")
        if log.calls_of_copies and not self.among_others:
            plural = "s" if log.calls_of_copies > 1 else ""
            notes.append(f"{log.calls_of_copies} call{plural} of copies of the model")
        added = self.model.added()
        if added:
            names = first_few([repr(name) for name in added])
            notes.append(f"modules that were added to the model meanwhile: {names}")
        if not log.forwards:
            steps = f", though {log.steps} steps changed its weights" if log.steps else ""
            notes.append(f"everything: no forward of the model was seen{steps}")
        return notes
