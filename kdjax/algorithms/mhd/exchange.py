"""How the predictions of teachers on public examples reach a student."""

from collections.abc import Callable
from typing import NamedTuple

from kdjax.types import Phase, Pos


def own_pass(apply, params, statistics, asked, half):
  """The student's own pass over its public examples: (ModelOut, model_state)."""
  return apply(params, half, statistics)


class Exchange(NamedTuple):
  """How the predictions of teachers reach a student; see pooled.py and broadcast.py."""

  init: Callable  # clients -> local state, a tuple over cohorts
  ask: Callable  # (state, batch, now) -> tuple over cohorts of pytrees [K_g, ...], for `hear`
  hear: Callable  # (one client's part of it, its public images) -> (p [D, U, m, C], xi, valid [D])
  common: bool  # whether the clients must look at the same public batch
  own: Callable = own_pass  # (apply, params, statistics, one client's part, its public half)
  args: Callable[[Pos], object] = lambda pos: ()  # of the training phase
  sent: Callable[[Pos], dict[str, int]] = lambda pos: {}
  start: Callable[[], dict[str, int]] = lambda: {}
  steps: int = 0  # training steps between two refreshes
  refresh: Phase | None = None
