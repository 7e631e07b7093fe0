"""Models that travel between a core and its edges: the edges they visit, and their snapshots."""

from collections.abc import Sequence

import jax
from jaxtyping import Float

from kdjax.core import snapshots
from kdjax.core.arrays import Array
from kdjax.core.env import Env
from kdjax.types import ClientState, ConfigError


def itinerary(
  env: Env, *, init: str, arrivals: Sequence, noisy: Sequence, noise: float
) -> tuple[tuple[int, int], ...]:
  """The edge whose models arrive in each round, and the lag of its clone.

  Args:
    env: Env; holder 0 of a replica is the core, the others are edges.
    init, arrivals, noisy, noise: see `Hyper`.

  Returns:
    ((edge, lag), ...), by round.

  Raises:
    ConfigError: for an edge that does not exist, an invalid lag or probability.
  """
  edges = range(1, env.population.holders)
  visits = tuple(arrivals) or tuple((edge, 0) for edge in edges)
  who = f"an edge's number, 1..{edges[-1]}"
  for place, visit in enumerate(visits):
    pair = isinstance(visit, list | tuple) and [type(x) for x in visit] == [int, int]
    if not pair or visit[0] not in edges or visit[1] < 0:
      raise ConfigError("algo.arrivals", visit, f"each is ({who}; a lag of 0 or more)")
    if visit[1] > place:
      hint = f"in round {place} no clone is more than {place} rounds old: a lag of 0..{place}"
      raise ConfigError("algo.arrivals", visit, hint)
    if visit[1] and init != "clone":
      hint = f"with algo.init = {init!r} nothing is cloned that could be out of date: lag 0"
      raise ConfigError("algo.arrivals", visit, hint)
  for edge in noisy:
    if type(edge) is not int or edge not in edges:
      raise ConfigError("algo.noisy", edge, f"must be {who}")
  if not 0 <= noise <= 1:
    raise ConfigError("algo.noise", noise, "must be a probability")
  return visits


def unpack(env: Env, g: int, flat: Float[Array, "K_g L"]) -> ClientState:
  """The clients of cohort g in snapshots f32[K_g, L], with fresh optimisers."""

  def with_optimiser(snapshot):
    client = snapshots.client(env, g, snapshot)
    return client._replace(opt_state=env.cohorts[g].tx.init(client.params))

  return jax.vmap(with_optimiser)(flat)
