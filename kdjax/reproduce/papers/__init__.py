"""A file or a folder a paper: its tasks, arms, claims and figures."""

import importlib
import pkgutil

from kdjax.reproduce.claims import Paper


def named() -> dict[str, Paper]:
  """All papers by name, the files' names."""
  names = sorted(module.name for module in pkgutil.iter_modules(__path__))
  return {name: importlib.import_module(f"{__name__}.{name}").PAPER for name in names}
