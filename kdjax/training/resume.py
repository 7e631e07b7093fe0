"""Finds the state that a run continues from: its newest whole checkpoint, or step 0."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdjax.core import agreement
from kdjax.training import run_folder, schedule, stored
from kdjax.types import ConfigError, TrainState

if TYPE_CHECKING:
  from kdjax.experiment import Experiment


def restore(
  experiment: "Experiment", workdir: str | Path
) -> tuple[TrainState, int | None, dict[str, Any]]:
  """Restores the newest whole checkpoint, or makes the state of step 0 if none was ever saved.

  Returns:
    (state, its training batches or None, what was saved beside it: see `Stretch.save`).

  Raises:
    ConfigError: if no whole checkpoint is left, or the newest does not fit this experiment.
  """

  def attempt(step):
    meta = stored.meta(workdir, step)
    _check_belongs(experiment, workdir, step, meta)
    return stored.state(workdir, step, experiment.shapes()), step, meta

  found = stored.newest(workdir, attempt, aside=True)
  state, step, meta = (experiment.init(), None, {}) if found is None else found
  experiment.unreadable.restore(meta.get("unreadable", {}))
  if step is not None:
    call = schedule.call_at(experiment.visits, int(state.calls), step)
    if call != int(state.calls):  # what closed a shorter run
      state = state._replace(calls=state.calls + (call - int(state.calls)))
  return state, step, meta


def _check_belongs(experiment, workdir, step, meta):
  """Raises ConfigError for another run's checkpoint, or one beyond the run's end."""
  record = run_folder.read(workdir)
  known = [*experiment.hashes(experiment.config), *experiment.hashes(record["config"])]
  if "arrays" not in meta:
    who = stored.written_by(meta)
    agreement.say(f"checkpoint {step} was saved by {who}: its arrays cannot be verified")
    known = [record.get("hash")]
  if meta["hash"] not in known:
    hint = "the data behind the source changed: who holds which example is not what it was"
    raise ConfigError("workdir", str(workdir), hint)
  if step > experiment.batches:
    key = "steps" if experiment.config["steps"] else "rounds"
    hint = f"{workdir} has done {step} batches already: this would end it at {experiment.batches}"
    raise ConfigError(key, experiment.config[key], hint)
