"""Checkpoints of a run, and the snapshots that clients publish, by Orbax.

A checkpoint has three items: `model` (parameters and statistics, all that evaluation needs),
`rest` (optimisers, the method's state, the position) and `meta` (the hash that it belongs to, and
what the run has spent). The last two are kept, and the best of those whose step was evaluated.
"""

import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from kdjax.core import hosts
from kdjax.types import ClientState, Cohort, ConfigError, PyTree, TrainState

METRIC = "shared_accuracy"


def _split(state):
  model = tuple({"params": c.params, "model_state": c.model_state} for c in state.clients)
  rest = {
    "step": state.step,
    "opt_state": tuple(c.opt_state for c in state.clients),
    "health": tuple(c.health for c in state.clients),
    "local": state.local,
    "server": state.server,
  }
  # Orbax does not store containers without leaves, such as a method's empty state.
  return model, {k: v for k, v in rest.items() if jax.tree.leaves(v)}


def _join(template, model, rest):
  opt_states = rest.get("opt_state", tuple(c.opt_state for c in template.clients))
  return TrainState(
    step=rest["step"],
    clients=tuple(
      ClientState(m["params"], m["model_state"], o, h)
      for m, o, h in zip(model, opt_states, rest["health"], strict=True)
    ),
    local=rest.get("local", template.local),
    server=rest.get("server", template.server),
  )


class Checkpoints:
  """The checkpoints under WORKDIR/checkpoints, by training batch."""

  def __init__(self, workdir: str | Path) -> None:
    best = checkpoint_managers.BestN(
      get_metric_fn=lambda metrics: metrics[METRIC], n=1, keep_checkpoints_without_metrics=False
    )
    policy = checkpoint_managers.AnyPreservationPolicy([checkpoint_managers.LatestN(2), best])
    self.workdir = workdir
    self._manager = ocp.CheckpointManager(
      Path(workdir).resolve() / "checkpoints",
      options=ocp.CheckpointManagerOptions(preservation_policy=policy),
    )

  def latest(self) -> int | None:
    """The newest training batch that has a checkpoint, or None."""
    return self._manager.latest_step()

  def save(
    self, batches: int, state: TrainState, meta: dict[str, Any], accuracy: float | None
  ) -> None:
    """Starts saving; `accuracy` is the number by which the best is kept, or None."""
    if batches in self._manager.all_steps():
      return
    model, rest = _split(state)
    args = ocp.args.Composite(
      model=ocp.args.StandardSave(model),
      rest=ocp.args.StandardSave(rest),
      meta=ocp.args.JsonSave(meta),
    )
    metrics = None if accuracy is None else {METRIC: accuracy}
    self._manager.save(batches, args=args, metrics=metrics)

  def meta(self, batches: int) -> dict[str, Any]:
    """What was saved as `meta`."""
    args = ocp.args.Composite(meta=ocp.args.JsonRestore())
    return self._manager.restore(batches, args=args)["meta"]

  def restore(self, batches: int, template: TrainState) -> TrainState:
    """The state saved at a training batch; `template` holds shapes, dtypes and shardings."""
    model, rest = _split(template)
    args = ocp.args.Composite(
      model=ocp.args.StandardRestore(model), rest=ocp.args.StandardRestore(rest)
    )
    saved = self._manager.restore(batches, args=args)
    return _join(template, saved["model"], saved["rest"])

  def restore_model(self, batches: int, template: PyTree) -> PyTree:
    """Parameters and statistics alone, over cohorts; `template` as for `restore`."""
    args = ocp.args.Composite(model=ocp.args.StandardRestore(template))
    return self._manager.restore(batches, args=args)["model"]

  def close(self) -> None:
    """Waits for saves under way."""
    self._manager.wait_until_finished()
    self._manager.close()


def saved_steps(workdir: str | Path) -> list[int]:
  """The training batches of which a folder holds a checkpoint, ascending; creates nothing."""
  folder = Path(workdir) / "checkpoints"  # one being saved has a longer name
  return sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit())


def weights(workdir: str | Path, client: int, *, key: str) -> dict[str, PyTree]:
  """The newest weights of a run's client: {'params': ..., 'model_state': ...}, host arrays.

  Args:
    workdir: the run's folder.
    client: its place among the clients of the run's first architecture, replica by replica.
    key: the config key to blame.

  Raises:
    ConfigError: for a folder without a checkpoint, or a client that is not there.
  """
  steps = saved_steps(workdir)
  if not steps:
    raise ConfigError(f"{key}.workdir", str(workdir), "holds no checkpoint")
  with ocp.StandardCheckpointer() as reader:
    path = Path(workdir).resolve() / "checkpoints" / str(steps[-1]) / "model"
    shapes = reader.metadata(path).item_metadata.tree
    template = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    saved = reader.restore(path, template)[0]
  count = len(jax.tree.leaves(saved["params"])[0])
  if not 0 <= client < count:
    raise ConfigError(f"{key}.client", client, f"must lie in 0..{count - 1}")
  return {"model_state": {}} | jax.tree.map(lambda x: np.asarray(x[client]), saved)


def publish(
  workdir: str | Path, state: TrainState, cohorts: tuple[Cohort, ...], batches: int, keep: int
) -> None:
  """Writes every client's weights to WORKDIR/pool/CLIENT/BATCHES, the last `keep` of each."""
  with ocp.StandardCheckpointer() as saver:
    for cohort, client in zip(cohorts, state.clients, strict=True):
      weights = hosts.fetch({"params": client.params, "model_state": client.model_state})
      if not jax.tree.leaves(weights["model_state"]):
        del weights["model_state"]
      for place, k in enumerate(cohort.ids):
        folder = Path(workdir).resolve() / "pool" / str(k)
        if hosts.first():
          folder.mkdir(parents=True, exist_ok=True)
          others = {int(p.name) for p in folder.iterdir() if p.name.isdigit()} - {batches}
          for old in sorted(others)[: max(0, len(others) + 1 - keep)]:
            shutil.rmtree(folder / str(old))
        one = jax.tree.map(lambda x, place=place: x[place], weights)
        saver.save(folder / str(batches), one, force=True)
