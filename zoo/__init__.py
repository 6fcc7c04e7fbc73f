"""Public models, audited: `make zoo` builds them small, audits each and writes what was found."""
