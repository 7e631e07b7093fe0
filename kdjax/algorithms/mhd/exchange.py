"""How the predictions of teachers on public examples reach a student."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import linen as nn

from kdjax.core.passes import eval_mode, train_mode
from kdjax.types import Batch, ClientState, Examples, ModelOut, Now, Phase, Pos, PyTree, TrainState

# The message parts (probabilities, embedding) of a ModelOut: (p f32[U, m, C], xi f32[U, F]).
PredictFn = Callable[[ModelOut], tuple[jax.Array, jax.Array]]


def in_mode(speak_in: str, model: nn.Module, client: ClientState, half: Examples) -> ModelOut:
  """One client's ModelOut for a public half of a batch, in the mode in which teachers predict.

  Args:
    speak_in: `Hyper.speak_in`.
    model: the client's network.
    client: the client's parameters and statistics.
    half: images f32[U, ...], and their mask f32[U] for the statistics of the batch.
  """
  if speak_in == "training":
    return train_mode(model, client.model_state, client.params, half)[0]
  return eval_mode(model, client, half.image)


def student_pass(
  apply: Callable, params: PyTree, statistics: PyTree, teachers: PyTree, half: Examples
) -> tuple[ModelOut, PyTree]:
  """The student's own pass over its public examples; returns (ModelOut, model_state)."""
  return apply(params, half, statistics)


class Exchange(NamedTuple):
  """The way in which teachers' predictions reach a student; see pool.py and broadcast.py."""

  init: Callable[[tuple[ClientState, ...]], tuple]  # clients -> local state, over cohorts
  # Every client's teachers in a step, for the functions below: over cohorts, pytrees [K_g, ...].
  prepare: Callable[[TrainState, Batch, Now], tuple]
  # (one client's teachers, its public half) -> (p [D, U, m, C], xi [D, U, F], valid [D]).
  teacher_predictions: Callable[[PyTree, Examples], tuple[jax.Array, jax.Array, jax.Array]]
  common: bool  # whether the clients must look at the same public batch
  # (apply, params, statistics, one client's teachers, its public half).
  student_pass: Callable[..., tuple[ModelOut, PyTree]] = student_pass
  args: Callable[[Pos], Any] = lambda pos: ()  # of the training phase
  bytes_sent: Callable[[Pos], dict[str, int]] = lambda pos: {}
  bytes_at_start: Callable[[], dict[str, int]] = lambda: {}
  steps: int = 0  # training steps between two refreshes
  refresh: Phase | None = None
  # For clients that train apart: the phase before a round's training steps, which fills `server`.
  receive: Phase | None = None
  server: Callable[[], PyTree] = lambda: ()
