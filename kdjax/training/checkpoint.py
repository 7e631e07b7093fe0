"""Checkpoints of a run, and the snapshots that clients publish, saved by Orbax.

A checkpoint has three items: `model` (parameters and statistics, all that evaluation needs),
`rest` (optimisers, the method's state, the position) and `meta` (the hash that it belongs to, what
the run has spent, a digest of every array). The last two are kept, and the best of those whose step
was evaluated. Orbax writes beside the training into a temporary folder, renames it when all is
there, and cleans up after a crash; that a save may fail and training go on is added here.
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
LINGER = 10.0  # seconds that a process with an error gives a save under way to be finished

# What a disk says, in Orbax's long messages too.
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
    """For every checkpoint, oldest first."""
    steps = [one.step for one in checkpoints]
    known = [step for step in steps if step in self.accuracy]
    best = max(known, key=lambda step: (self.accuracy[step], step), default=None)
    return [step == best or step in steps[-2:] for step in steps]


class Checkpoints:
  """Saves under WORKDIR/checkpoints, by training batch.

  A save runs beside the training; how it went is known when it is settled, at the latest by the
  next one. One that fails is no error: it is counted, and nothing is listed for it.
  """

  def __init__(self, workdir: str | Path) -> None:
    """Nothing is created or opened yet."""
    self.workdir = Path(workdir).resolve()
    self.failures: float = 0  # saves that failed, in a row
    self._manager: ocp.CheckpointManager | None = None
    self._under_way: int | None = None
    self._committed: int | None = None
    self._keep = Keep(_accuracies(workdir))
    quiet.orbax()

  def save(
    self, batches: int, state: TrainState, meta: dict[str, Any], accuracy: float | None
  ) -> None:
    """Starts saving; `accuracy` is the number by which the best is kept, or None."""
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
    """Waits for the save under way; whether the last one that was asked for is on disk."""
    if self._under_way is not None and self._orbax(self._written):
      if self.failures:
        agreement.say(f"the checkpoint of step {self._under_way} is saved again")
      self._under_way, self.failures = None, 0
    return not self.failures

  def __enter__(self) -> "Checkpoints":
    """Itself."""
    return self

  def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
    """Closes; after an error that others may not share, without them."""
    if error is None or hosts.alone():
      self.close()
    elif self._manager is not None:
      waiting = threading.Thread(target=_quietly, args=(self._manager.wait_until_finished,))
      waiting.daemon = True  # where the others are not there, it never ends
      waiting.start()
      waiting.join(LINGER)

  def close(self) -> None:
    """Waits for a save under way; of those that failed nothing is left."""
    self.settle()
    self._drop()
    if hosts.first():  # Orbax's threads may still have written when a save had been given up
      for left in (self.workdir / run_folder.CHECKPOINTS).glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"):
        shutil.rmtree(left, ignore_errors=True)

  def _open(self):
    """Orbax's manager: opened at the first save, and anew after one that failed."""
    if self._manager is None:
      self._manager = ocp.CheckpointManager(
        self.workdir / run_folder.CHECKPOINTS,
        options=ocp.CheckpointManagerOptions(
          preservation_policy=self._keep,
          lightweight_initialize=True,  # what is damaged must not keep it from opening
          cleanup_tmp_directories=True,
          async_options=ocp.AsyncOptions(
            post_finalization_callback=self._record,
            # Else threads wait ten minutes for folders that a disk does not take.
            create_directories_asynchronously=False,
          ),
        ),
      )
    return self._manager

  def _written(self):
    assert self._manager is not None and self._under_way is not None
    self._manager.wait_until_finished()
    if hosts.first() and self._committed != self._under_way:
      raise RuntimeError("Orbax did not finish it")

  def _orbax(self, act):
    """Whether all processes can do it. What goes wrong in Orbax is whatever the disk says."""
    reason = ""
    try:
      act()
    except Exception as error:
      reason = _reason(error)
    if not agreement.anywhere(bool(reason)):
      return True
    self._failed(self._under_way, reason or "another process failed")
    if not hosts.alone():  # Orbax's barriers do not survive that one process fails
      self.failures = math.inf
    return False

  def _drop(self):
    manager, self._manager = self._manager, None
    if manager is not None:
      _quietly(manager.close)

  def _record(self):
    """Called by Orbax when all is on disk: tells from now on that there were checkpoints."""
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
        "training goes on, the next save tries again"
      )

  def _no_room(self, size):
    """Why a save need not be tried, or ''. One process finds out by saving, several ask before."""
    if not hosts.alone():
      return agreement.from_first(lambda: _no_room(self.workdir, size))
    return "" if self.workdir.is_dir() else "the folder is gone"


def _quietly(act):
  with contextlib.suppress(Exception):  # it repeats what is known already
    act()


def _no_room(workdir, size):
  """Why a folder cannot hold so many bytes, or ''."""
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
  """An error in few words: the system's own, where they are known."""
  words = getattr(error, "strerror", None) or str(error)
  for known in map(os.strerror, CODES):
    if known in words:
      return known
  return words.strip().splitlines()[0][:120] if words.strip() else type(error).__name__


def _accuracies(workdir):
  """{step: the number by which the best is kept} of what is on disk."""
  found = {}
  for step in run_folder.steps(workdir):
    with contextlib.suppress(stored.DamagedError, OSError, ValueError, KeyError):
      known = stored.meta(workdir, step)
      if "arrays" not in known:  # as kdjax before 0.3 kept it
        path = stored.path(workdir, step) / "metrics" / "metrics"
        known = {"accuracy": json.loads(path.read_bytes())["shared_accuracy"]}
      if known["accuracy"] is not None:
        found[step] = float(known["accuracy"])
  return found


def publish(
  workdir: str | Path, state: TrainState, cohorts: tuple[Cohort, ...], batches: int, keep: int
) -> None:
  """Writes every client's weights to WORKDIR/pool/CLIENT/BATCHES, the last `keep` of each.

  A disk that does not take them is said, and no error: nothing of the run depends on them.
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
        one = jax.tree.map(lambda x, place=place: x[place], weights)
        saver.save(_pool(workdir, k) / str(batches), one, force=True)


def _make_room(workdir, ids, batches, keep):
  """Clients' folders, each with one snapshot fewer than are kept."""
  for folder in (_pool(workdir, k) for k in ids):
    folder.mkdir(parents=True, exist_ok=True)
    others = {int(p.name) for p in folder.iterdir() if p.name.isdigit()} - {batches}
    for old in sorted(others)[: max(0, len(others) + 1 - keep)]:
      shutil.rmtree(folder / str(old))


def _pool(workdir, k):
  return Path(workdir).resolve() / "pool" / str(k)
