"""The state of step 0: fresh weights, or some of those that another run trained."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.core.clients import init_client
from kdjax.core.env import STATE, Env, sharded
from kdjax.training import contract, run_folder
from kdjax.types import Algorithm, ConfigError, PyTree, TrainState

COMPILED = {"xla_backend_optimization_level": 1}  # step 0 runs once: compiling is what costs


def initialiser(
  env: Env, algorithm: Algorithm, *, method: str, common: bool
) -> Callable[[PyTree], TrainState]:
  """A jitted function that makes the TrainState of step 0.

  Args:
    env: Env.
    method: the algorithm's name.
    algorithm: Algorithm; in a peer, `init` is handed the fresh clients of the whole ensemble.
    common: whether all clients of a replica that are built alike start from the same weights.

  Returns:
    given -> TrainState, where `given` is what `given_weights` returns.
  """

  def clients(cohort, ids, given):
    model, tx = cohort.model, cohort.tx
    keys = env.common_keys_of(ids, "init", 0) if common else env.keys_of(ids, "init", 0)
    return jax.vmap(lambda key: init_client(model, tx, key, env.task.image, env.dtype, given))(keys)

  def start(given):
    ids = [jnp.asarray(c.ids) for c in env.ensemble]
    if not env.is_peer:
      ids = [env.ids(g) for g in range(len(env.cohorts))]
    cohorts = tuple(clients(c, k, given) for c, k in zip(env.ensemble, ids, strict=True))
    begun = algorithm.init(cohorts)
    sizes = [len(env.ids(g)) for g in range(len(env.cohorts))]
    contract.check_start(method, begun, sizes)
    return TrainState(jnp.zeros((), jnp.int32), *begun)

  replicated = jax.sharding.PartitionSpec()
  return jax.jit(sharded(env, start, (replicated,), STATE), compiler_options=COMPILED)


def given_weights(*, workdir: str, client: int, part: Sequence[str]) -> dict[str, PyTree]:
  """The weights that `config.start` names.

  Args:
    workdir: a run folder with a checkpoint, or '': nothing is given.
    client: whose, by its number as `kdjax.load` counts.
    part: the top-level modules to take, such as 'extractor'; none: the whole model.

  Returns:
    {'params': ..., 'model_state': ...}, host arrays, or {}.

  Raises:
    ConfigError: for a folder without a checkpoint, a client or a part that is not there.
  """
  if not workdir:
    return {}
  whole = weights(workdir, client, key="start")
  if not part:
    return whole
  for name in part:
    if name not in whole["params"]:
      hint = "that model has " + ", ".join(sorted(whole["params"]))
      raise ConfigError("start.part", name, hint)
  only = lambda tree: {name: tree[name] for name in part if name in tree}
  statistics = {name: only(tree) for name, tree in whole["model_state"].items()}
  return {"params": only(whole["params"]), "model_state": statistics}


def weights(workdir: str | Path, client: int, *, key: str) -> dict[str, PyTree]:
  """The newest weights of a run's client: {'params': ..., 'model_state': ...}, host arrays.

  Args:
    workdir: the run's folder.
    client: its number as `kdjax.load` counts, 0 .. R*K - 1, replica by replica.
    key: the config key to blame.

  Raises:
    ConfigError: for a folder without a whole checkpoint, or a client that is not there.
  """
  from kdjax.training import stored  # Orbax, where it is needed

  def model(step):
    shapes = stored.shapes(workdir, step, "model")
    template = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    return stored.read(workdir, step, "model", template)

  saved = stored.newest(workdir, model, aside=False)
  if saved is None:
    raise ConfigError(f"{key}.workdir", str(workdir), "holds no checkpoint")
  sizes = [len(jax.tree.leaves(cohort["params"])[0]) for cohort in saved]
  numbers = _numbers(run_folder.read(workdir), sizes)
  trained = sorted(k for cohort in numbers for k in cohort)
  if client not in trained:
    hint = f"must lie in 0..{len(trained) - 1}"
    if trained[-1] >= len(trained):
      hint = "must be one of those that train there: " + ", ".join(map(str, trained))
    raise ConfigError(f"{key}.client", client, hint)
  g = next(g for g, cohort in enumerate(numbers) if client in cohort)
  row = numbers[g].index(client)
  return {"model_state": {}} | jax.tree.map(lambda x: np.asarray(x[row]), saved[g])


def _numbers(record, sizes):
  """The clients' numbers by cohort, of a run whose checkpoints hold `sizes` clients by cohort.

  A cohort's clients are neighbours in number within each replica. A peer has a single replica and
  only the clients that `here` lists.
  """
  replicas = record["config"].get("replicas", 1)
  trained = sorted(record.get("here") or range(sum(sizes)))
  K = len(trained) // replicas
  firsts = np.cumsum([0, *sizes]) // replicas
  return [
    [trained[r * K + i] for r in range(replicas) for i in range(first, end)]
    for first, end in itertools.pairwise(firsts)
  ]
