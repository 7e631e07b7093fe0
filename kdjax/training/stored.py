"""Reads a run's checkpoints from disk: lists them, checks them, sets damaged ones aside.

Every value is compared with the digests beside it (`digest.py`). Orbax itself checks that its own
index is whole and that compressed data can be decompressed. It does not check that arrays are
unchanged.
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

WHOLE = ("step", "server")  # entries of `rest` that belong to no client


class DamagedError(Exception):
  """A checkpoint is not what was saved; the message names the part."""


def path(workdir: str | Path, step: int) -> Path:
  """The folder of a checkpoint."""
  return Path(workdir).resolve() / run_folder.CHECKPOINTS / str(step)


def sealed(meta: dict[str, Any]) -> dict[str, Any]:
  """The metadata of a checkpoint, with its own digest."""
  return meta | {"digest": _digest(meta)}


def _digest(meta):
  return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def meta(workdir: str | Path, step: int) -> dict[str, Any]:
  """The metadata of a checkpoint; kdjax before 0.3 saved it without `arrays`.

  Raises:
    DamagedError: if it is not what was saved, or belongs to another checkpoint.
  """
  try:
    contents = json.loads((path(workdir, step) / "meta" / "metadata").read_bytes())
    seal = contents.pop("digest", None)
    if seal is None and "hash" in contents and set(contents) <= {"hash", "spent"}:
      return contents
    is_whole = seal == _digest(contents)
  except (OSError, ValueError, AttributeError, RecursionError) as error:
    raise DamagedError(f"meta cannot be read ({type(error).__name__})") from None
  if not is_whole:
    raise DamagedError("meta is not what was saved")
  if contents["step"] != step:
    raise DamagedError(f"it is that of step {contents['step']}")
  return contents


def written_by(meta: dict[str, Any]) -> str:
  """The version that saved a checkpoint, in words."""
  return "kdjax " + meta["versions"]["kdjax"] if "versions" in meta else "a kdjax before 0.3"


def read(workdir: str | Path, step: int, item: str, template: PyTree) -> PyTree:
  """Reads and checks the arrays of an item, this process's own part of them.

  Args:
    workdir, step: the checkpoint.
    item: 'model' or 'rest'.
    template: shapes, dtypes and shardings.

  Raises:
    DamagedError: if the arrays are not what was saved.
    ConfigError: if they are what was saved, and do not fit the template.
  """
  saved = meta(workdir, step)
  check_fit(workdir, step, saved, item, template)
  arrays, failure = _attempt(lambda: _reader().restore(path(workdir, step) / item, template))
  if agreement.anywhere(bool(failure)):
    raise DamagedError(f"{item} cannot be read ({failure or 'by another process'})")
  if "arrays" in saved:
    now = digest.table(arrays, WHOLE)
    difference = digest.differing(now, {key: saved["arrays"][item][key] for key in now})
    if difference:
      raise DamagedError(f"{item}/{difference} is not what was saved")
  return arrays


def _attempt(act):
  """Runs a read of Orbax; returns (its result, ''), or (None, the name of the error).

  Damaged files can make Orbax raise any error.
  """
  quiet.orbax()
  try:
    return jax.block_until_ready(act()), ""
  except Exception as error:
    return None, type(error).__name__


def _reader():
  """A Checkpointer that waits for no other process, since a read may fail in one process alone."""
  process = jax.process_index()
  alone = ocp.options.MultiprocessingOptions(
    primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"alone{process}"
  )
  handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
  return ocp.Checkpointer(handler, multiprocessing_options=alone)


def shapes(workdir: str | Path, step: int, item: str) -> PyTree:
  """The shapes and dtypes of an item, from Orbax's own index.

  Raises:
    DamagedError: if the index cannot be read, or is not what was saved.
  """

  def index():
    tree = _reader().metadata(path(workdir, step) / item).item_metadata.tree
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)

  tree, failure = _attempt(index)
  if failure:
    raise DamagedError(f"{item} cannot be read ({failure})")
  arrays = meta(workdir, step).get("arrays")
  if arrays and digest.kinds(tree) != {key: kind[:2] for key, kind in arrays[item].items()}:
    raise DamagedError(f"the index of {item} is not what was saved")
  return tree


def check_fit(
  workdir: str | Path, step: int, meta: dict[str, Any], item: str, template: PyTree
) -> None:
  """Raises ConfigError, naming both versions, if an item's arrays do not fit the template."""
  wanted = digest.kinds(template)
  if "arrays" in meta:
    saved = {key: kind[:2] for key, kind in meta["arrays"][item].items()}
  else:
    saved = digest.kinds(shapes(workdir, step, item))
  for key in sorted(set(wanted) | set(saved)):
    if wanted.get(key) != saved.get(key):
      was, now = saved.get(key, "none"), wanted.get(key, "none")
      hint = f"its checkpoint {step} was saved by {written_by(meta)}, this is "
      hint += f"{kdjax.__version__}: {item}/{key} was {was} and would be {now}"
      raise ConfigError("workdir", str(workdir), hint)


def state(workdir: str | Path, step: int, template: TrainState) -> TrainState:
  """Reads a whole TrainState; `template` holds shapes, dtypes and shardings.

  Raises:
    DamagedError, ConfigError: see `read`.
  """
  model, rest = split(template)
  saved = meta(workdir, step)
  if "arrays" in saved:
    entries = saved["arrays"]["rest"]
  else:
    entries = digest.kinds(shapes(workdir, step, "rest"))
  parts = {key.split("/")[0] for key in entries}
  missing = {} if "health" in parts else {"health": tuple(map(_healthy, rest.pop("health")))}
  rest = read(workdir, step, "rest", rest) | missing
  return join(template, read(workdir, step, "model", model), rest)


def _healthy(health):
  """The health of clients without faults, for checkpoints of versions that saved none."""
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype, device=x.sharding), health)
  return zeros._replace(since=zeros.since - 1)


def split(state: TrainState) -> tuple[PyTree, dict[str, Any]]:
  """Splits a state into the items `model` (all that evaluation needs) and `rest`."""
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
  """Joins the items of `split` into a TrainState; `template` has the parts that are empty."""
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
  """The result of `attempt` on the newest whole checkpoint; None if the run never saved one.

  Args:
    workdir: the run's folder.
    attempt: step -> result; raises DamagedError.
    aside: whether to rename damaged checkpoints, instead of only passing over them.
    only: the one checkpoint to try; None: any.

  Raises:
    ConfigError: if the run has saved checkpoints and no whole one is left.
  """
  listed = agreement.from_first(lambda: run_folder.steps(workdir)[::-1])
  for step in listed if only is None else [only]:
    try:
      return attempt(step)
    except DamagedError as error:
      name = agreement.from_first(partial(set_aside, workdir, step)) if aside else ""
      outcome = f"set aside as {name}" if aside else "passed over"
      agreement.say(f"checkpoint {step} of {workdir} is damaged, {error}: {outcome}")
  if agreement.from_first(lambda: run_folder.ever_saved(workdir)):
    hint = "it has saved checkpoints, and no whole one is left: put one back, or use another folder"
    raise ConfigError("workdir", str(workdir), f"{hint}; the run is not started over")
  return None


def set_aside(workdir: str | Path, step: int) -> str:
  """Renames a damaged checkpoint; returns its new name.

  Raises:
    ConfigError: if it cannot be renamed.
  """
  old = path(workdir, step)
  number = 0
  while (new := old.with_name(f"damaged-{step}" + (f".{number}" if number else ""))).exists():
    number += 1
  try:
    old.rename(new)
  except OSError as error:
    hint = f"is damaged and cannot be renamed: {error.strerror}"
    raise ConfigError("workdir", str(old), hint) from None
  return f"{run_folder.CHECKPOINTS}/{new.name}"
