"""What teacher and student get right together and alone: prediction intersection and consensus.

Lee, Yoo and Kwak, 2020, https://arxiv.org/abs/2010.10338v1, Section 4.1, Figs. 4, 6 and 9. Teacher
and student are the entries 'edge' and 'core' of a method whose `server['holder']` says whose data
the teacher learned from. They are compared on test data, on the core's training data (holder 0's)
and on that edge's, all of it as at test time, without augmentation.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from kdjax.core import hosts
from kdjax.core.clients import STATE, sharded
from kdjax.types import ConfigError

ENTRIES = ("edge", "core")  # teacher, student


def make(experiment, *, batch):
  """The evaluator.

  Args:
    experiment: Experiment.
    batch: images per pass; a multiple of the mesh's `data` axis.

  Returns:
    state -> a list over replicas of dicts {'overlap_test', 'overlap_core', 'overlap_edge': see
    `summarise`}, of main heads; empty ones before the first teacher came back.

  Raises:
    ConfigError: for a batch that cannot be, or a method without these entries.
  """
  env, data = experiment.env, experiment.data
  view, predict = experiment.view, experiment.algorithm.predict
  every = experiment.config["evals"]["overlap"]["every"]
  if every:
    right = "must be 0, after every round: within one, the models are on their way to another edge"
    raise ConfigError("evals.overlap.every", every, right)
  if batch < 1 or batch % env.mesh.shape["data"]:
    right = f"must be a positive multiple of the mesh's data axis, {env.mesh.shape['data']}"
    raise ConfigError("evals.overlap.batch", batch, right)

  def step(state, image, label, mask):
    said = predict(state, jax.vmap(view)(image).astype(env.dtype))
    if not set(ENTRIES) <= set(said):
      right = "this method has no teacher that comes from an edge to a core: leave it out"
      raise ConfigError("evals", "overlap", right)
    right = [said[entry][:, :, 0].argmax(-1) == label for entry in ENTRIES]  # bool[R, N]
    counts = jnp.stack([*right, right[0] & right[1]], 1) * mask  # [R, 3, N]
    return jax.lax.psum(counts.sum(-1), "data")

  specs = (STATE, P("data"), P("data"), P("data"))
  program = jax.jit(sharded(env, step, specs, P()))
  place = functools.partial(hosts.place, env.mesh, specs[1:])
  shapes = (((batch, *data.source.test.shape), "uint8"), ((batch,), "int32"), ((batch,), "float32"))
  jax.eval_shape(program, experiment.template(), *(jax.ShapeDtypeStruct(*s) for s in shapes))

  def count(state, images, places):
    """Right answers of teacher, student and both on some images, all replicas; i64[R, 3]."""
    total = np.zeros((env.R, 3), np.int64)
    for begin in range(0, len(places), batch):
      index = np.arange(begin, begin + batch)
      mask = (index < len(places)).astype(np.float32)
      index = places[np.minimum(index, len(places) - 1)]
      label = images.labels[index].astype(np.int32)
      part = jax.device_get(program(state, *place((images.fetch(index), label, mask))))
      total += np.rint(part).astype(np.int64)
    return total

  def run(state):
    holder = int(state.server["holder"])
    if holder < 0:
      return [{} for _ in range(env.R)]
    train, test = data.source.train, data.source.test
    n = len(test.labels)
    found = [{"overlap_test": summarise(c, n)} for c in count(state, test, np.arange(n))]
    for r, out in enumerate(found):  # every replica has other images
      for name, k in (("overlap_core", 0), ("overlap_edge", holder)):
        places = np.asarray(data.shards.private[r * env.holders + k])
        out[name] = summarise(count(state, train, places)[r], len(places))
    return found

  return run


def summarise(counts, n):
  """Shares of n examples.

  Args:
    counts: (|T|, |S|, |T and S|), how many the teacher, the student and both get right.
    n: examples.

  Returns:
    dict of 'teacher' and 'student', their accuracies; 'mutual', both; 'exclusive', the student
    alone; 'union', either; and 'consensus', mutual over union, 1 where nobody gets any right.
  """
  teacher, student, mutual = (int(c) for c in counts)
  union = teacher + student - mutual
  return {
    "teacher": teacher / n,
    "student": student / n,
    "mutual": mutual / n,
    "exclusive": (student - mutual) / n,
    "union": union / n,
    "consensus": mutual / union if union else 1.0,
  }
