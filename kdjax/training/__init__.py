"""The machinery of a run: what is dispatched, written, saved and resumed."""
