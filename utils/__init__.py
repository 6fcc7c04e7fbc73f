"""Evaluation mode, handled with care: the package behind the book.

Each module has one concern and is imported by name. Installed, the package is ``evalmode``; in the
book's repository it is the folder ``utils``::

    from evalmode.evaluation import evaluate
    from evalmode.modes import evaluating
"""
