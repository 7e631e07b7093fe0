"""Using what was trained: a client's prediction function out of a run folder."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import experiment
from kdjax.core import files
from kdjax.core.passes import eval_mode
from kdjax.data import dataset
from kdjax.training.checkpoint import Checkpoints, saved_steps
from kdjax.types import ClientState, ConfigError


@dataclasses.dataclass(frozen=True)
class Trained:
  """One trained client."""

  heads: tuple[str, ...]
  predict: Callable  # u8[N, h, w, c] -> {head: f32[N, C]} probabilities; pure, jitted


def load(workdir, *, client, step=None):
  """A client of a finished or interrupted run, without the run's data.

  Args:
    workdir: the run's folder.
    client: its number, 0 .. R*K - 1, replica by replica.
    step: the checkpoint to use, a training batch; None: the newest.

  Returns:
    Trained: `predict` takes images u8[N, h, w, c] as they are in the source, and applies the
    preprocessing of the run's evaluation.

  Raises:
    ConfigError: for a folder without that checkpoint or a client that does not exist.
  """
  path = Path(workdir) / "config.json"
  if not path.exists():
    raise ConfigError("workdir", str(workdir), "holds no config.json: not a run's folder")
  steps = saved_steps(workdir)
  if not steps:
    raise ConfigError("workdir", str(workdir), "holds no checkpoint")
  step = steps[-1] if step is None else step
  if step not in steps:
    raise ConfigError("step", step, f"there are checkpoints of {', '.join(map(str, steps))}")
  record = files.read_json(path)
  config, data = record["config"], dataset.stand_in(record["config"], record["examples"])
  planned = experiment.build(config, data=data, devices=jax.devices()[:1])
  env = planned.env
  if not 0 <= client < env.clients:
    raise ConfigError("client", client, f"must lie in 0..{env.clients - 1}")
  checkpoints = Checkpoints(workdir)
  (g, cohort) = next((g, c) for g, c in enumerate(env.cohorts) if client in c.ids)
  one = lambda tree, place: jax.tree.map(lambda x: np.asarray(x[place]), tree)
  template, server, alone = planned.template(), None, planned.algorithm.alone
  if alone is None:
    alone = lambda g, weights, server, images: eval_mode(cohort.model, weights, images).logits
    shapes = tuple({"params": c.params, "model_state": c.model_state} for c in template.clients)
    saved = checkpoints.restore_model(step, shapes)[g]
  else:
    state = checkpoints.restore(step, template)
    saved = {"params": state.clients[g].params, "model_state": state.clients[g].model_state}
    server = one(state.server, client // env.K)
  checkpoints.close()
  weights = ClientState(**one(saved, cohort.ids.index(client)), opt_state=())

  @jax.jit
  def predict(images):
    seen = jax.vmap(planned.view)(jnp.asarray(images)).astype(env.dtype)
    p = jax.nn.softmax(alone(g, weights, server, seen))
    return {head: p[:, h] for h, head in enumerate(env.heads)}

  return Trained(env.heads, predict)
