"""Checkpoints of a run, and the snapshots that clients publish, saved by Orbax.

A checkpoint has three items: `model` (parameters and statistics, all that evaluation needs),
`rest` (optimisers, the method's state, the position) and `meta` (the hash of its config and data,
the time and images that the run has spent, a digest of every array). A run keeps the last two
checkpoints, and the best of those whose step was evaluated. Orbax writes into a temporary folder
while training goes on, renames the folder when it is complete, and cleans up after a crash. This
module adds that training continues after a save that failed.
"""

import contextlib
import errno
import json
import math
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

import kdjax
from kdjax.core import agreement, files, hosts
from kdjax.training import digest, quiet, run_folder, stored
from kdjax.types import Cohort, TrainState

VERSIONS = {"kdjax": kdjax.__version__, "jax": jax.__version__, "orbax": ocp.__version__}
LINGER = 10.0  # seconds that a process with an error waits for a save that is under way

# The errors of a disk, which Orbax's long messages quote too.
CODES: tuple[int, ...] = (
  errno.ENOSPC,
  errno.EDQUOT,
  errno.EROFS,
  errno.EACCES,
  errno.EFBIG,
  errno.EIO,
)
CODES += (errno.ESTALE, errno.ENOENT, errno.ENOTDIR)


class Keep(checkpoint_managers.PreservationPolicy):
  """Keeps the last two checkpoints, and the best of those whose accuracy is known."""

  def __init__(self, accuracy: dict[int, float]) -> None:
    """`accuracy`, by step, may grow later."""
    self.accuracy = accuracy

  def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
    """Returns whether to keep each checkpoint, oldest first."""
    steps = [checkpoint.step for checkpoint in checkpoints]
    known = [step for step in steps if step in self.accuracy]
    best = max(known, key=lambda step: (self.accuracy[step], step), default=None)
    return [step == best or step in steps[-2:] for step in steps]


class Checkpoints:
  """Saves under WORKDIR/checkpoints, by training batch.

  A save runs while training goes on. Its outcome is known after `settle`, at the latest when the
  next save begins. A save that fails raises nothing: it is counted, and its step is not listed.
  """

  def __init__(self, workdir: str | Path) -> None:
    """Nothing is created or opened yet."""
    self.workdir = Path(workdir).resolve()
    self.failures: float = 0  # consecutive saves that failed
    self._manager: ocp.CheckpointManager | None = None
    self._under_way: int | None = None
    self._committed: int | None = None
    self._keep = Keep(_accuracies(workdir))
    quiet.orbax()

  def save(
    self, batches: int, state: TrainState, meta: dict[str, Any], accuracy: float | None
  ) -> None:
    """Starts saving a state.

    Args:
      batches: training batches of the run so far, the checkpoint's name.
      state: TrainState.
      meta: what is saved beside the state.
      accuracy: the number by which the best checkpoint is kept; None: not evaluated.
    """
    if batches == self._under_way:
      return
    self.settle()
    if batches in run_folder.steps(self.workdir):
      return
    model, rest = stored.split(state)
    arrays = {"model": digest.table(model), "rest": digest.table(rest, stored.WHOLE)}
    meta = {**meta, "step": batches, "accuracy": accuracy, "versions": VERSIONS, "arrays": arrays}
    args = ocp.args.Composite(
      model=ocp.args.StandardSave(model),
      rest=ocp.args.StandardSave(rest),
      meta=ocp.args.JsonSave(stored.sealed(meta)),
    )
    reason = self._no_room(sum(x.nbytes for x in jax.tree.leaves((model, rest))))
    if reason:
      self._failed(batches, reason)
      return
    if accuracy is not None:
      self._keep.accuracy[batches] = accuracy
    self._under_way = batches
    self._orbax(lambda: self._open().save(batches, args=args))

  def settle(self) -> bool:
    """Waits for the save under way; returns whether the last requested save is on disk."""
    if self._under_way is not None and self._orbax(self._written):
      if self.failures:
        agreement.say(f"saving works again: the checkpoint of step {self._under_way} is on disk")
      self._under_way = None
      self.failures = 0
    return not self.failures

  def __enter__(self) -> "Checkpoints":
    """Returns itself."""
    return self

  def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
    """Closes; after an error that other processes may not have, without waiting for them."""
    if error is None or hosts.alone():
      self.close()
    elif self._manager is not None:
      waiting = threading.Thread(target=_quietly, args=(self._manager.wait_until_finished,))
      waiting.daemon = True  # it never ends where other processes are gone
      waiting.start()
      waiting.join(LINGER)

  def close(self) -> None:
    """Waits for a save under way, and removes the files of saves that failed."""
    self.settle()
    self._drop()
    if hosts.first():  # Orbax's threads may have written on after a save was given up
      for left in (self.workdir / run_folder.CHECKPOINTS).glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"):
        shutil.rmtree(left, ignore_errors=True)

  def _open(self):
    """Returns Orbax's manager, opened at the first save and reopened after a save that failed."""
    if self._manager is None:
      self._manager = ocp.CheckpointManager(
        self.workdir / run_folder.CHECKPOINTS,
        options=ocp.CheckpointManagerOptions(
          preservation_policy=self._keep,
          lightweight_initialize=True,  # a damaged checkpoint must not prevent opening
          cleanup_tmp_directories=True,
          async_options=ocp.AsyncOptions(
            post_finalization_callback=self._record,
            # Otherwise threads wait ten minutes for folders that the disk refuses.
            create_directories_asynchronously=False,
          ),
        ),
      )
    return self._manager

  def _written(self):
    assert self._manager is not None and self._under_way is not None
    self._manager.wait_until_finished()
    if hosts.first() and self._committed != self._under_way:
      raise RuntimeError("Orbax did not finish the save")

  def _orbax(self, act):
    """Runs an action of Orbax; returns whether it succeeded in all processes.

    Orbax passes on whatever error the disk raises, so every Exception counts as a failed save.
    """
    reason = ""
    try:
      act()
    except Exception as error:
      reason = _reason(error)
    if not agreement.anywhere(bool(reason)):
      return True
    self._failed(self._under_way, reason or "another process failed")
    if not hosts.alone():  # Orbax's barriers do not survive a failure in one process
      self.failures = math.inf
    return False

  def _drop(self):
    manager = self._manager
    self._manager = None
    if manager is not None:
      _quietly(manager.close)

  def _record(self):
    """Notes in `saved.json` that the run has saved; Orbax calls it when a save is complete."""
    self._committed = self._under_way
    if hosts.first():
      with contextlib.suppress(OSError):
        files.write_json(self.workdir / run_folder.SAVED, {"step": self._under_way})

  def _failed(self, batches, reason):
    self._drop()
    self._under_way = None
    self._keep.accuracy.pop(batches, None)
    self.failures += 1
    if self.failures == 1:
      agreement.say(
        f"the checkpoint of step {batches} is not saved ({reason}): "
        "training continues, and the next save tries again"
      )

  def _no_room(self, size):
    """Why a save would fail, or ''.

    Several processes test for room before they save, since a failure in one of them breaks Orbax's
    barriers. A single process tests only that the folder exists, and learns the rest by saving.
    """
    if not hosts.alone():
      return agreement.from_first(lambda: _no_room(self.workdir, size))
    return "" if self.workdir.is_dir() else "the folder is gone"


def _quietly(act):
  with contextlib.suppress(Exception):  # the failure behind it was reported before
    act()


def _no_room(workdir, size):
  """Why a folder cannot hold `size` more bytes, or ''."""
  place = workdir / ".room"
  try:
    with open(place, "wb") as file:
      os.posix_fallocate(file.fileno(), 0, size)
  except OSError as error:
    return error.strerror
  finally:
    with contextlib.suppress(OSError):
      place.unlink()
  return ""


def _reason(error):
  """An error in a few words: the operating system's own where the message contains them."""
  text = (getattr(error, "strerror", None) or str(error)).strip()
  for known in map(os.strerror, CODES):
    if known in text:
      return known
  return text.splitlines()[0][:120] if text else type(error).__name__


def _accuracies(workdir):
  """{step: the number by which the best is kept} of the checkpoints on disk."""
  accuracies = {}
  for step in run_folder.steps(workdir):
    with contextlib.suppress(stored.DamagedError, OSError, ValueError, KeyError):
      meta = stored.meta(workdir, step)
      if "arrays" not in meta:  # the format of kdjax before 0.3
        path = stored.path(workdir, step) / "metrics" / "metrics"
        meta = {"accuracy": json.loads(path.read_bytes())["shared_accuracy"]}
      if meta["accuracy"] is not None:
        accuracies[step] = float(meta["accuracy"])
  return accuracies


def publish(
  workdir: str | Path, state: TrainState, cohorts: tuple[Cohort, ...], batches: int, keep: int
) -> None:
  """Writes every client's weights to WORKDIR/pool/CLIENT/BATCHES, and keeps the last `keep`.

  A write error is reported, not raised: the run does not depend on these snapshots.
  """
  try:
    _publish(workdir, state, cohorts, batches, keep)
  except Exception as error:
    agreement.say(f"the snapshots of step {batches} are not written ({_reason(error)})")


def _publish(workdir, state, cohorts, batches, keep):
  ids = [k for cohort in cohorts for k in cohort.ids]
  agreement.from_first(lambda: _make_room(workdir, ids, batches, keep))
  with ocp.StandardCheckpointer() as saver:
    for cohort, client in zip(cohorts, state.clients, strict=True):
      weights = hosts.fetch({"params": client.params, "model_state": client.model_state})
      if not jax.tree.leaves(weights["model_state"]):
        del weights["model_state"]
      for place, k in enumerate(cohort.ids):
        snapshot = jax.tree.map(lambda x, place=place: x[place], weights)
        saver.save(_pool(workdir, k) / str(batches), snapshot, force=True)


def _make_room(workdir, ids, batches, keep):
  """Makes the clients' folders, and leaves one snapshot fewer in each than are kept."""
  for folder in (_pool(workdir, k) for k in ids):
    folder.mkdir(parents=True, exist_ok=True)
    others = {int(p.name) for p in folder.iterdir() if p.name.isdigit()} - {batches}
    for old in sorted(others)[: max(0, len(others) + 1 - keep)]:
      shutil.rmtree(folder / str(old))


def _pool(workdir, k):
  return Path(workdir).resolve() / "pool" / str(k)
