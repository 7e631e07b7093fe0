"""Checks of hyper-parameters; their errors name the key, the value and what would be right."""

from collections.abc import Collection
from typing import Any

from kdjax.types import ConfigError

MOST_EPOCHS = 10_000  # passes over the data in one visit of a phase


def at_least(least: int | float, **algo: Any) -> None:
  """Raises ConfigError for the first hyper-parameter that is below `least`."""
  for key, value in algo.items():
    if not value >= least:
      raise ConfigError(f"algo.{key}", value, f"must be at least {least}")


def between(least: int | float, most: int | float, **algo: Any) -> None:
  """Raises ConfigError for the first hyper-parameter outside `least`..`most`."""
  for key, value in algo.items():
    if not least <= value <= most:
      hint = f"must be at least {least}" if value < least else f"must be at most {most:,}"
      raise ConfigError(f"algo.{key}", value, hint)


def above_0(**algo: Any) -> None:
  """Raises ConfigError for the first hyper-parameter that is not above 0."""
  for key, value in algo.items():
    if not value > 0:
      raise ConfigError(f"algo.{key}", value, "must be above 0")


def one_of(names: Collection[str], **algo: Any) -> None:
  """Raises ConfigError for the first hyper-parameter whose value is not one of `names`."""
  for key, value in algo.items():
    if value not in names:
      raise ConfigError(f"algo.{key}", value, "must be one of " + ", ".join(names))
