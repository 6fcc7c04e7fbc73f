"""Evaluation mode, handled with care: the package behind the book.

Each module has one concern and is imported by name::

    from utils.evaluation import evaluate
    from utils.modes import evaluating
"""
