"""The part of an ensemble that one peer trains."""

import dataclasses
from typing import Any

from kdjax.core.env import Env
from kdjax.peers.mail import Mail
from kdjax.types import Algorithm, Cohort, ConfigError, Method


def cohorts(
  config: dict[str, Any], everyone: tuple[Cohort, ...], own: tuple[int, ...]
) -> tuple[Cohort, ...]:
  """A peer's clients by architecture, of those of the whole ensemble.

  Raises:
    ConfigError: for clients that are not there, for all of them, or for several replicas.
  """
  K = sum(len(c.ids) for c in everyone)
  if config["replicas"] > 1:
    raise ConfigError("replicas", config["replicas"], "must be 1 for clients that train apart")
  if not own or len(set(own)) < len(own) or not set(own) < set(range(K)):
    hint = f"different clients of 0..{K - 1}, and not all: others train elsewhere"
    raise ConfigError("--peer", ",".join(map(str, own)), hint)
  parts = [(c, tuple(k for k in c.ids if k in own)) for c in everyone]
  return tuple(dataclasses.replace(c, ids=ids) for c, ids in parts if ids)


def algorithm(name: str, method: Method, env: Env, hyper: Any, mail: Mail) -> Algorithm:
  """A method for clients that train apart.

  Args:
    name: the method, as the config names it.
    method: Method.
    env: Env of the peer's clients.
    hyper: its hyper-parameters.
    mail: how they meet the others.

  Raises:
    ConfigError: for a method without `Method.make_peer`.
  """
  if method.make_peer is None:
    hint = "its clients cannot train apart; those of mhd (pool, published) and fedmd can"
    raise ConfigError("algorithm", name, hint)
  if env.hostile.kind != "none":
    raise ConfigError("hostile.kind", env.hostile.kind, "must be none for clients that train apart")
  return method.make_peer(env, hyper, mail)
