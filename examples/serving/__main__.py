"""Train the book's network and write a checkpoint: ``python -m examples.serving model.pt``."""

import sys
from pathlib import Path

from utils.data import digits
from utils.trained import trained_digits_mlp

from .loading import save

net, _ = trained_digits_mlp()
save(net, digits().test.tensors[0][:64], Path(sys.argv[1]))
