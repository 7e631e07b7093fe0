"""Clients' uploads about all of their examples, and the server's answers, kept by example.

A client's memory is a table over its own list. It lives with the client, replicated over the `data`
axis. Features are stored as rows: a TPU pads the last axis of an array to 128 numbers, so that
32 x 32 x 16 numbers would take eight times their room.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float, Int, Shaped

from kdjax.algorithms.fedgkt import server
from kdjax.algorithms.fedgkt.arrivals import Plan
from kdjax.core import costs, health, hostile
from kdjax.core.arrays import Array
from kdjax.core.clients import select_rows, whole_batch
from kdjax.core.env import Env
from kdjax.core.passes import heads_input
from kdjax.types import ClientState, ConfigError, Examples, Now, Pos, Rows, Step


class Memory(NamedTuple):
  """Uploads and answers of the clients of one cohort; N is the longest list of any client."""

  feature: Any  # [K_g, N, F], each as one row
  logits: Any  # f32[K_g, N, C], the client's own
  label: Any  # i32[K_g, N]; -1 where no valid upload has been made
  answer: Any  # f32[K_g, N, C], the server's logits
  answered: Any  # bool[K_g], whether the server has answered the client yet
  held: Any  # `upload` as it last arrived, where the server learns from all it holds; else ()

  @property
  def upload(self) -> dict[str, jax.Array]:
    """The upload: {'feature', 'logits', 'label'}."""
    return {"feature": self.feature, "logits": self.logits, "label": self.label}


def tell(
  model: nn.Module, cut: str, client: ClientState, images: Float[Array, "N ..."]
) -> tuple[Shaped[Array, "N ..."], Float[Array, "N H C"]]:
  """One client's (feature [N, ...], logits f32[N, H, C]) in evaluation mode."""
  features, logits = _features_and_logits(model, client, images)
  return features[cut], logits


def _features_and_logits(model, client, images):
  """({name: feature that can be uploaded}, logits); 'embedding' is the input of the heads."""
  embedding, out = heads_input(model, client, images)
  return {"embedding": embedding, **out.features}, out.logits


def feature_at(env: Env, cut: str) -> jax.ShapeDtypeStruct:
  """Shape and dtype of one example's feature: an entry of `features`, or 'embedding'.

  Raises:
    ConfigError: where a client's model has no such feature, or two have it in different shapes.
  """
  images = jax.ShapeDtypeStruct((1, *env.task.image), env.dtype)
  shapes = []
  for cohort in env.cohorts:
    outputs = functools.partial(_features_and_logits, cohort.model)
    features, _ = jax.eval_shape(outputs, cohort.template, images)
    if cut not in features:
      raise ConfigError("algo.cut", cut, f"{cohort.name} has " + ", ".join(features))
    shapes.append(jax.ShapeDtypeStruct(features[cut].shape[1:], features[cut].dtype))
  if len({(x.shape, x.dtype) for x in shapes}) > 1:
    given = [f"{c.name} {x.shape} {x.dtype}" for c, x in zip(env.cohorts, shapes, strict=True)]
    raise ConfigError("algo.cut", cut, "must have one shape everywhere, not " + ", ".join(given))
  return shapes[0]


def nbytes(env: Env, feature: jax.ShapeDtypeStruct) -> dict[str, int]:
  """Bytes of one example's upload by kind; an answer has the size of `logits`."""
  logits = jax.ShapeDtypeStruct((env.task.classes,), env.dtype)
  kinds = {"features": feature, "logits": logits, "labels": jax.ShapeDtypeStruct((), jnp.int32)}
  return {kind: costs.nbytes(x) for kind, x in kinds.items()}


def bytes_sent(
  env: Env, plan: Plan, feature: jax.ShapeDtypeStruct
) -> tuple[Callable[[Pos], dict[str, int]], Callable[[Pos], dict[str, int]]]:
  """`Phase.bytes_sent` of the upload and of the server: bytes of the clients that arrive.

  Args:
    env: Env.
    plan: arrivals.Plan.
    feature: see `feature_at`.
  """
  size = nbytes(env, feature)

  def examples(groups):
    return int(sum(env.task.private_sizes[k] for group in groups for k in group))

  def uploaded(pos):
    n = examples(group for own in plan.attendance.groups(pos.round) for group in own)
    return {kind: n * one for kind, one in size.items()} if pos.visit_call == 0 else {}

  def answered(pos):
    call = plan.calls(pos.round)[pos.visit_call]
    if not call.answers or call.batch:
      return {}
    by_replica = plan.attendance.groups(pos.round)
    groups = (own[call.group] for own in by_replica if call.group < len(own))
    return {"logits": examples(groups) * size["logits"]}

  return uploaded, answered


def communication(
  env: Env, feature: jax.ShapeDtypeStruct, trained: int, upload_rounds: int, answer_rounds: int
) -> dict[str, int]:
  """Bytes of a run in which all clients always arrive, by the paper's formulas; all replicas.

  He, Annavaram and Avestimehr, 2020: `fedgkt_eq13` leaves out the logits and labels that clients
  also upload. `split_learning_eq12` is split learning over as many examples on the edge.

  Args:
    env: Env.
    feature: see `feature_at`.
    trained: examples of the edges' training steps.
    upload_rounds: rounds in which clients uploaded.
    answer_rounds: rounds in which the server answered; one fewer if the run ends before that.
  """
  size, n = nbytes(env, feature), int(env.task.private_sizes.sum())
  return {
    "fedgkt_eq13": n * (upload_rounds * size["features"] + answer_rounds * size["logits"]),
    "split_learning_eq12": trained * 2 * size["features"],
  }


def empty(env: Env, feature: jax.ShapeDtypeStruct, *, holds: bool) -> tuple[Memory, ...]:
  """Memories before the first upload, a tuple over cohorts.

  Args:
    env: Env.
    feature: see `feature_at`.
    holds: whether the server learns from all uploads it holds.
  """
  N, C = _longest(env), env.task.classes

  def of_cohort(n):
    table = lambda *shape, dtype=env.dtype: jnp.zeros((n, *shape), dtype)
    memory = Memory(
      feature=table(N, math.prod(feature.shape), dtype=feature.dtype),
      logits=table(N, C),
      label=table(N, dtype=jnp.int32) - 1,
      answer=table(N, C),
      answered=table(dtype=bool),
      held=(),
    )
    return memory._replace(held=memory.upload) if holds else memory

  return tuple(of_cohort(len(env.ids(g))) for g in range(len(env.cohorts)))


def slots(env: Env, keyed: bool, g: int, half: Examples, now: Now) -> Int[Array, "K_g B"]:
  """The slots in the memory of cohort g for these examples: i32[K_g, B]; N for padding.

  Args:
    env: Env.
    keyed: True: an example's slot is its row. False: its place in the pass, whichever example it
      is.
    g: the cohort's index.
    half: Examples with leaves [K_g, B, ...].
    now: Now of a phase of epochs.
  """
  place = half.row
  if not keyed:
    n = half.row.shape[1]
    within = jax.lax.axis_index("data") * n + jnp.arange(n)
    step = now.visit_call % env.local_rows(g, -(-env.task.private_sizes // env.training.batch))
    place = (step[:, None] * env.training.batch + within).astype(jnp.int32)
  return jnp.where(half.mask > 0, place, _longest(env))


def answers(memory: Memory, slot: Int[Array, "K_g B"]) -> Float[Array, "K_g B C"]:
  """The server's logits at slots i32[K_g, B]: f32[K_g, B, C]; arbitrary for padding."""
  return jax.vmap(lambda table, s: table.at[s].get(mode="clip"))(memory.answer, slot)


def step(env: Env, cut: str, keyed: bool) -> Step:
  """`Phase.step` of the upload: every client writes its upload of a batch into its memory."""
  write = jax.vmap(lambda table, slot, x: table.at[slot].set(x.astype(table.dtype), mode="drop"))

  def step(state, batch, now):
    local = []
    sent = hostile.as_sent(env, state.clients)
    for g, (half, memory) in enumerate(zip(batch.private, state.local, strict=True)):
      upload = functools.partial(tell, env.cohorts[g].model, cut)
      h, z = env.map_clients(upload, sent[g], half.image)
      slot = slots(env, keyed, g, half, now)
      # z depends on h, so both are finite where z is.
      slot = jnp.where(health.finite_rows(z[:, :, 0]), slot, _longest(env))
      *values, slot = whole_batch((h.reshape(*h.shape[:2], -1), z[:, :, 0], half.label, slot))
      feature, logits, label = (
        write(table, slot, x) for table, x in zip(memory[:3], values, strict=True)
      )
      local.append(memory._replace(feature=feature, logits=logits, label=label))
    return state._replace(local=tuple(local)), ({},) * len(local)

  return step


def take_in(
  env: Env, memories: tuple[Memory, ...], arrived: Bool[Array, " clients"]
) -> tuple[Memory, ...]:
  """Memories in which the server holds the uploads of the clients that arrived, bool[R*K]."""

  def of_cohort(g, memory):
    held = select_rows(env.local_rows(g, arrived), memory.upload, memory.held)
    return memory._replace(held=held)

  return tuple(of_cohort(g, memory) for g, memory in enumerate(memories))


def answer(
  env: Env, memories: tuple[Memory, ...], rows: Rows, z: Float[Array, "R S C"]
) -> tuple[Memory, ...]:
  """Memories with the server's logits z for all unmasked rows; z f32[R, S, C] on every device."""
  tables, reached = server.deliver(env, tuple(m.answer for m in memories), rows, z)
  return tuple(
    m._replace(answer=t, answered=m.answered | r)
    for m, t, r in zip(memories, tables, reached, strict=True)
  )


def _longest(env):
  return int(env.task.private_sizes.max())
