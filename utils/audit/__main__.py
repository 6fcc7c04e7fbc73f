"""``python -m utils.audit``: see :mod:`utils.audit.command`."""

from utils.audit.command import main

raise SystemExit(main())
