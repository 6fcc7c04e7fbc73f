"""The kinds of finding: what each means, how it is mended, and the chapter that explains it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PACKAGE = __name__.rpartition(".")[0]
"""The name under which this package was imported, for the cures that name its functions."""


@dataclass(frozen=True)
class Kind:
    """One kind of finding of the tools: ``audit``, ``record`` and ``compare``.

    Attributes
    ----------
    name
        A few words that name the mistake, joined by hyphens.
    found_by
        ``"audit"`` for a mistake of a model, ``"record"`` for one of the loop around it,
        ``"compare"`` for one of a program that was exported from it.
    meaning
        What is wrong.
    cure
        What to change; a finding may have a more specific one.
    chapter
        The chapter of the book that explains it, by the name of its file.
    drawn_at
        For a mistake of a loop, which forwards at the line a timeline marks: those that nothing
        learned from (``"unused"``), or those in one mode.
    """

    name: str
    found_by: Literal["audit", "record", "compare"]
    meaning: str
    cure: str
    chapter: str
    drawn_at: Literal["", "unused", "eval", "train"] = ""


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "mixed-modes",
            "audit",
            "the model is in eval mode, and a layer in it that listens is in train mode",
            "call eval() on the whole model before evaluating",
            "08_fine_tuning",
        ),
        Kind(
            "thaws-with-train",
            "audit",
            "a layer is in eval mode in a model in train mode, and the next train() undoes it",
            f"freeze with {PACKAGE}.modes.keep_in_eval, or override train() in the model",
            "08_fine_tuning",
        ),
        Kind(
            "eval-not-followed",
            "audit",
            "eval() does not reach a module, does not return it, or is not done when it is done",
            "in an override of train(), call super().train(mode) and return self",
            "06_mode_bugs",
        ),
        Kind(
            "train-not-followed",
            "audit",
            "train() does not reach a module, or does not return it",
            "in an override of train(), call super().train(mode) and return self",
            "06_mode_bugs",
        ),
        Kind(
            "switches-mode",
            "audit",
            "a forward runs a submodule in another mode, or leaves it in one",
            "leave modes alone in forward; set them outside, once",
            "06_mode_bugs",
        ),
        Kind(
            "random-in-eval",
            "audit",
            "two calls on one input, in eval mode, give two answers",
            "pass training=self.training (or multiply the rate by it), or use a registered "
            "nn.Dropout; sample in train mode only",
            "06_mode_bugs",
        ),
        Kind(
            "depends-on-batch",
            "audit",
            "in eval mode, a sample's answer depends on the others in its batch",
            "use running statistics in eval mode (track_running_stats=True), or normalise each "
            "sample by itself (layer or group norm)",
            "06_mode_bugs",
        ),
        Kind(
            "moves-in-eval",
            "audit",
            "a call in eval mode changes a buffer, a parameter or an attribute",
            "update it only where self.training is true",
            "06_mode_bugs",
        ),
        Kind(
            "depends-on-history",
            "audit",
            "in eval mode, an answer depends on the calls before it",
            "keep nothing between calls that changes an answer; pass state in and return it",
            "06_mode_bugs",
        ),
        Kind(
            "mode-from-elsewhere",
            "audit",
            "something else than self.training decides: a flag of its own, or the gradient mode",
            "ask self.training, the one flag that train() and eval() set",
            "06_mode_bugs",
        ),
        Kind(
            "non-finite-output",
            "audit",
            "the output holds values that are nan or infinite",
            "look at this module's inputs and weights: a division by zero, a log of zero, an "
            "overflow, or a running variance that is not finite",
            "07_worse_in_eval",
        ),
        Kind(
            "non-finite-statistics",
            "audit",
            "running statistics hold nan, infinite or negative values",
            "find the batch that did it (an overflow, a nan in the data), reset the statistics "
            "and estimate them again",
            "07_worse_in_eval",
        ),
        Kind(
            "statistics-far-off",
            "audit",
            "a layer receives data unlike its running statistics",
            f"estimate them again in train mode on data like this ({PACKAGE}.batch_norm.reestimate"
            "), or pass data prepared as in training",
            "07_worse_in_eval",
        ),
        Kind(
            "statistics-never-updated",
            "audit",
            "the running statistics are those that the layer was made with",
            "train with the layer in train mode, load its buffers, or estimate them "
            f"({PACKAGE}.batch_norm.reestimate)",
            "07_worse_in_eval",
        ),
        Kind(
            "shared-by-unlike-inputs",
            "audit",
            "one normalisation serves streams that do not look alike",
            "give each stream its own normalisation; the weights of other layers can stay shared",
            "07_worse_in_eval",
        ),
        Kind(
            "evaluated-in-train-mode",
            "record",
            "forwards that nothing learns from run layers that listen in train mode",
            f"put the model in eval mode around this loop: with {PACKAGE}.modes.evaluating(model), "
            "or model.eval() before and model.train() after",
            "06_mode_bugs",
            "unused",
        ),
        Kind(
            "trained-in-eval-mode",
            "record",
            "optimiser steps come from forwards with the whole model in eval mode",
            "call model.train() before this loop, each time evaluation has ended",
            "06_mode_bugs",
            "eval",
        ),
        Kind(
            "graph-never-used",
            "record",
            "forwards record a graph that no backward pass uses",
            "put this loop under torch.inference_mode() or torch.no_grad()",
            "05_three_switches",
            "unused",
        ),
        Kind(
            "frozen-part-in-train-mode",
            "record",
            "a part with frozen weights runs in train mode, and its running statistics move",
            f"keep it in eval mode as well: {PACKAGE}.modes.keep_in_eval, which model.train() "
            "leaves alone",
            "08_fine_tuning",
            "train",
        ),
        Kind(
            "thawed",
            "record",
            "a layer that training kept in eval mode is back in train mode",
            f"freeze with {PACKAGE}.modes.keep_in_eval, which model.train() leaves alone, or "
            "override train() in the model",
            "08_fine_tuning",
            "train",
        ),
        Kind(
            "unlike-the-original",
            "compare",
            "the exported program gives other answers than the model",
            "export once more, after model.eval(), from the weights that it is compared with; a "
            "model that takes attention's fast path without gradients is compared with "
            "torch.backends.mha.set_fastpath_enabled(False)",
            "14_export",
        ),
        Kind(
            "fails-on-a-batch-size",
            "compare",
            "the exported program raises an error on some sizes of a batch",
            "name the batch's dimension as one that changes (dynamic_shapes) when exporting",
            "14_export",
        ),
        Kind(
            "random-once-exported",
            "compare",
            "two calls of the exported program on one input differ",
            "call model.eval() before exporting: dropout was written into the program",
            "14_export",
        ),
        Kind(
            "remembers-calls",
            "compare",
            "an answer of the exported program depends on the calls before it",
            "call model.eval() before exporting, and keep nothing between calls",
            "14_export",
        ),
        Kind(
            "moves-the-original",
            "compare",
            "a call of the exported program changes buffers of the model that it was made from",
            "call model.eval() before exporting, or export a copy: the two share their buffers",
            "14_export",
        ),
    )
}
"""Every kind of finding by its name."""
