"""kdjax: clients with private data teach each other by distillation, all in one jitted step.

>>> import kdjax
>>> config = kdjax.get_config("mhd_digits", steps=40, replicas=1)
>>> stepper = kdjax.Stepper(kdjax.build(config))
>>> state = stepper.init()
>>> state, losses = stepper.step(state)
>>> sorted(losses)
['aux1', 'aux2', 'aux3', 'cross_entropy', 'loss']
"""

import importlib

__version__ = "0.4.0"

_HOMES = {  # name: its module, loaded at the first access so that `import kdjax` starts nothing
  "ConfigError": "types",
  "Method": "types",
  "Run": "run",
  "Stepper": "training.stepper",
  "Trained": "use",
  "TrainingError": "types",
  "arrays": "data.arrays",
  "build": "api",
  "frame": "run",
  "get_config": "api",
  "load": "use",
  "train": "api",
  "train_grid": "api",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str):
  """A name of the public API, from the module that defines it."""
  if name not in _HOMES:
    raise AttributeError(f"module 'kdjax' has no attribute {name!r}")
  return getattr(importlib.import_module(f"kdjax.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
  return sorted(__all__)
