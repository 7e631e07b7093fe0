"""Enters a run, its folder, lock, checkpoint and log, and trains a stretch of it (stretch.py)."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kdjax.core import agreement
from kdjax.ending import DONE, UNSAVED
from kdjax.training import checkpoint, lock, resume, run_folder, writer
from kdjax.training.stretch import Stretch

if TYPE_CHECKING:
  from kdjax.experiment import Experiment


def run(
  experiment: "Experiment",
  workdir: str | Path,
  *,
  command: str,
  stop: Callable[[], bool] = lambda: False,
  profile: int = 0,
  name: str = "",
) -> int:
  """Trains to the end of the config, or until `stop`; the same call again resumes.

  Args:
    experiment: Experiment.
    workdir: the run's folder.
    command: the command line that resumes the run, for the record.
    stop: called between dispatches; when it returns true, the run saves and ends.
    profile: steps to trace into WORKDIR/profile, once the first ones have run; 0: none.
    name: of a variant, which the progress shows; '': the method's.

  Returns:
    `DONE`, `STOPPED`, or `UNSAVED` if the disk takes no checkpoint.

  Raises:
    ConfigError: for a folder that is damaged, or that belongs to another config, to other examples
      or to a run that is alive.
    TrainingError: if a loss is no longer finite.
  """
  workdir = Path(workdir)
  run_folder.check(workdir, experiment)
  if agreement.from_first(lambda: run_folder.finished(workdir, experiment.batches)):
    return DONE
  try:
    with contextlib.ExitStack() as stack:
      with run_folder.own_files(workdir):
        agreement.from_first(lambda: workdir.mkdir(parents=True, exist_ok=True))
        held = stack.enter_context(lock.held(workdir))
        agreement.from_first(lambda: run_folder.claim(workdir, experiment, command))
      state, batches, meta = resume.restore(experiment, workdir)
      with run_folder.own_files(workdir):
        agreement.from_first(lambda: run_folder.extend(workdir, experiment.config, batches or 0))
        log = stack.enter_context(_open_log(workdir, batches, meta))
      checkpoints = stack.enter_context(checkpoint.Checkpoints(workdir))
      run = Stretch(experiment, workdir, checkpoints, log, meta, held, profile, name)
      return run.train(state, stop)
  except run_folder.UnwrittenError as error:
    agreement.say(str(error))
    return UNSAVED


def _open_log(workdir, batches, meta):
  """The run's log: a Writer in the first process, Silent in the others.

  An error of the first process's disk is raised in all processes.
  """
  log: writer.Writer | writer.Silent = writer.Silent()

  def open_writer():
    nonlocal log
    log = writer.Writer(workdir, resume_step=batches, known=meta.get("log"))

  agreement.from_first(open_writer)
  return log
