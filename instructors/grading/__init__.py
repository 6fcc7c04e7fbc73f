"""Grade notebooks of strangers: run them in a box, and judge what comes out elsewhere.

A submission is never asked whether it is right. It is run in a process of its own, its functions
are called there on inputs that it has not seen, and what they return is written down as plain
numbers. Another process, which runs nothing of the submission, decides what those are worth.

- `assignment`: the source notebook, its variants, and what students get of it.
- `submissions`: finding notebooks in a folder as Moodle or Canvas exports it.
- `box`: a process with limits, and no network and no sight of the rest where bubblewrap is there.
- `boxed`, beside this package: what runs in the box, and answers as text.
- `marking`: points for answers.
- `results`: the CSV files and the feedback pages.
"""
