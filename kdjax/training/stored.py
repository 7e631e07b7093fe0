"""What is on disk of a run's checkpoints, read without believing it: listed, checked, set aside.

Every number is compared with the digests beside it (`digest.py`). Orbax itself checks that its own
index is whole and that compressed data can be decompressed, not that arrays are what they were.
"""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

import kdjax
from kdjax.core import agreement
from kdjax.training import digest, quiet, run_folder
from kdjax.types import ClientState, ConfigError, PyTree, TrainState

WHOLE = ("step", "server")  # of `rest`: no client's


class DamagedError(Exception):
  """A checkpoint that is not what was saved; says what of it."""


def path(workdir: str | Path, step: int) -> Path:
  """The folder of a checkpoint."""
  return Path(workdir).resolve() / run_folder.CHECKPOINTS / str(step)


def sealed(meta: dict[str, Any]) -> dict[str, Any]:
  """What is known of a checkpoint, with a digest of it."""
  return meta | {"digest": _digest(meta)}


def _digest(meta):
  return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def meta(workdir: str | Path, step: int) -> dict[str, Any]:
  """What was saved of a checkpoint beside its arrays; without `arrays` if by kdjax before 0.3.

  Raises:
    DamagedError: where it is not what was saved, or another checkpoint's.
  """
  try:
    found = json.loads((path(workdir, step) / "meta" / "metadata").read_bytes())
    seal = found.pop("digest", None)
    if seal is None and "hash" in found and set(found) <= {"hash", "spent"}:
      return found
    whole = seal == _digest(found)
  except (OSError, ValueError, AttributeError, RecursionError) as error:
    raise DamagedError(f"meta cannot be read ({type(error).__name__})") from None
  if not whole:
    raise DamagedError("meta is not what was saved")
  if found["step"] != step:
    raise DamagedError(f"it is that of step {found['step']}")
  return found


def written_by(meta: dict[str, Any]) -> str:
  """The version that saved a checkpoint, in words."""
  return "kdjax " + meta["versions"]["kdjax"] if "versions" in meta else "a kdjax before 0.3"


def read(workdir: str | Path, step: int, item: str, template: PyTree) -> PyTree:
  """The arrays of an item, checked; this process's own part of them.

  Args:
    workdir, step: which checkpoint.
    item: 'model' or 'rest'.
    template: shapes, dtypes and shardings.

  Raises:
    DamagedError: where they are not what was saved.
    ConfigError: where they are, and do not fit the template.
  """
  known = meta(workdir, step)
  check_fit(workdir, step, known, item, template)
  found, failed = _attempt(lambda: _reader().restore(path(workdir, step) / item, template))
  if agreement.anywhere(bool(failed)):
    raise DamagedError(f"{item} cannot be read ({failed or 'by another process'})")
  if "arrays" in known:
    now = digest.table(found, WHOLE)
    other = digest.differing(now, {key: known["arrays"][item][key] for key in now})
    if other:
      raise DamagedError(f"{item}/{other} is not what was saved")
  return found


def _attempt(act):
  """(what it returns, ''), or (None, the error's name): Orbax raises whatever damage makes it."""
  quiet.orbax()
  try:
    return jax.block_until_ready(act()), ""
  except Exception as error:
    return None, type(error).__name__


def _reader():
  """Reads without waiting for other processes: one may fail where others do not."""
  here = jax.process_index()
  alone = ocp.options.MultiprocessingOptions(
    primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"alone{here}"
  )
  handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
  return ocp.Checkpointer(handler, multiprocessing_options=alone)


def shapes(workdir: str | Path, step: int, item: str) -> PyTree:
  """The shapes and dtypes of an item as Orbax's own index has them.

  Raises:
    DamagedError: where that cannot be read.
  """

  def index():
    tree = _reader().metadata(path(workdir, step) / item).item_metadata.tree
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)

  found, failed = _attempt(index)
  if failed:
    raise DamagedError(f"{item} cannot be read ({failed})")
  arrays = meta(workdir, step).get("arrays")
  if arrays and digest.kinds(found) != {key: kind[:2] for key, kind in arrays[item].items()}:
    raise DamagedError(f"the index of {item} is not what was saved")
  return found


def check_fit(
  workdir: str | Path, step: int, known: dict[str, Any], item: str, template: PyTree
) -> None:
  """Raises ConfigError, naming both versions, where an item's arrays are not the template's."""
  wanted = digest.kinds(template)
  if "arrays" in known:
    there = {key: kind[:2] for key, kind in known["arrays"][item].items()}
  else:
    there = digest.kinds(shapes(workdir, step, item))
  for key in sorted(set(wanted) | set(there)):
    if wanted.get(key) != there.get(key):
      was, now = there.get(key, "none"), wanted.get(key, "none")
      hint = f"its checkpoint {step} was saved by {written_by(known)}, this is "
      hint += f"{kdjax.__version__}: {item}/{key} was {was} and would be {now}"
      raise ConfigError("workdir", str(workdir), hint)


def state(workdir: str | Path, step: int, template: TrainState) -> TrainState:
  """A whole TrainState; `template` holds shapes, dtypes and shardings.

  Raises:
    DamagedError, ConfigError: see `read`.
  """
  model, rest = split(template)
  known = meta(workdir, step)
  kept = (
    known["arrays"]["rest"] if "arrays" in known else digest.kinds(shapes(workdir, step, "rest"))
  )
  parts = {key.split("/")[0] for key in kept}
  lacking = {} if "health" in parts else {"health": tuple(map(_well, rest.pop("health")))}
  found = read(workdir, step, "rest", rest) | lacking
  return join(template, read(workdir, step, "model", model), found)


def _well(health):
  """The health of clients of whom an older version saved none."""
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype, device=x.sharding), health)
  return zeros._replace(since=zeros.since - 1)


def split(state: TrainState) -> tuple[PyTree, dict[str, Any]]:
  """A state as the items `model` (all that evaluation needs) and `rest`."""
  model = tuple({"params": c.params, "model_state": c.model_state} for c in state.clients)
  rest = {
    "step": state.calls,
    "opt_state": tuple(c.opt_state for c in state.clients),
    "health": tuple(c.health for c in state.clients),
    "local": state.local,
    "server": state.server,
  }
  # Orbax does not store containers without leaves, such as a method's empty state.
  return model, {k: v for k, v in rest.items() if jax.tree.leaves(v)}


def join(template: TrainState, model: PyTree, rest: dict[str, Any]) -> TrainState:
  """What `split` took apart."""
  opt_states = rest.get("opt_state", tuple(c.opt_state for c in template.clients))
  return TrainState(
    calls=rest["step"],
    clients=tuple(
      ClientState(m["params"], m["model_state"], o, h)
      for m, o, h in zip(model, opt_states, rest["health"], strict=True)
    ),
    local=rest.get("local", template.local),
    server=rest.get("server", template.server),
  )


def newest(
  workdir: str | Path, attempt: Callable[[int], Any], *, aside: bool, only: int | None = None
) -> Any:
  """What `attempt` makes of the newest checkpoint that is whole; None where there never was one.

  Args:
    workdir: the run's folder.
    attempt: step -> anything; raises DamagedError.
    aside: whether damaged ones are renamed, and not only passed over.
    only: the one checkpoint to take; None: any.

  Raises:
    ConfigError: where there were checkpoints and none is left.
  """
  listed = agreement.from_first(lambda: run_folder.steps(workdir)[::-1])
  for step in listed if only is None else [only]:
    try:
      return attempt(step)
    except DamagedError as error:
      place = agreement.from_first(partial(set_aside, workdir, step)) if aside else ""
      done = f"set aside as {place}" if aside else "passed over"
      agreement.say(f"checkpoint {step} of {workdir} is damaged, {error}: {done}")
  if agreement.from_first(lambda: run_folder.ever_saved(workdir)):
    hint = "it has saved checkpoints and none that is whole is left: put one back, or use another"
    raise ConfigError("workdir", str(workdir), f"{hint} folder; nothing is started over")
  return None


def set_aside(workdir: str | Path, step: int) -> str:
  """Renames a damaged checkpoint; returns its new name.

  Raises:
    ConfigError: where that is not possible.
  """
  old, number = path(workdir, step), 0
  while (new := old.with_name(f"damaged-{step}" + (f".{number}" if number else ""))).exists():
    number += 1
  try:
    old.rename(new)
  except OSError as error:
    hint = f"is damaged and cannot be renamed: {error.strerror}"
    raise ConfigError("workdir", str(old), hint) from None
  return f"{run_folder.CHECKPOINTS}/{new.name}"
