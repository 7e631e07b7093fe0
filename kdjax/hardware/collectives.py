"""Collectives of a compiled program: the devices that take part, and the bytes they send."""

import math
import re

import numpy as np

from kdjax.hardware.hlo import Instruction, Module

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


def message(kind: str, n: int, given: float) -> float:
  """Bytes that one device sends in a collective, by the ring that moves least.

  Args:
    kind: one of `COLLECTIVES`.
    n: the number of devices that take part.
    given: the bytes that each device contributes.
  """
  share = (n - 1) / n
  return (
    given
    * {
      "all-reduce": 2 * share,
      "reduce-scatter": share,
      "all-to-all": share,
      "all-gather": n - 1,  # its own part, to each of the others
      "collective-permute": 1.0,
    }[kind]
  )


def continues(one: Instruction) -> bool:
  """Whether an instruction is the rest of a collective that began in an earlier kernel.

  A TPU spreads an all-gather over products that run meanwhile, and each kernel's text has it.
  """
  return bool(re.search(r'async_collective_fusion_config":\{"flag_start":"\d', one.rest))


def groups(module: Module, one: Instruction) -> list[list[int]]:
  """The groups of devices that take part together in a collective; of a permutation, its pairs.

  The notations are '{{0,1},{2,3}}', lists; '[groups,size]<=[dims]T(order)', all devices in rows;
  "mesh['a'=2,'b'=4] {'b'}", devices that differ in some axes alone; and '{}', all devices.

  Raises:
    ValueError: for an unknown notation, since a guess would price it wrong.
  """
  numbers = lambda text: [int(n) for n in text.split(",") if n]
  if one.op.startswith("collective-permute"):
    pairs = one.field(r"source_target_pairs=\{(\{[\d,{}]*\})?\}")
    return [[int(a), int(b)] for a, b in re.findall(r"\{(\d+),(\d+)\}", pairs) if a != b]
  if listed := one.field(r"replica_groups=\{(\{[\d,{}]*\})\}"):
    return [numbers(group) for group in re.findall(r"\{([\d,]+)\}", listed)]
  grid = re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", one.rest)
  if grid:
    ids = np.arange(int(grid[1]) * int(grid[2])).reshape(numbers(grid[3]))
    return ids.transpose(numbers(grid[4]) if grid[4] else None).reshape(int(grid[1]), -1).tolist()
  mesh = re.search(r"replica_groups=mesh\[([^\]]*)\] \{((?:'\w+',? ?)*)\}", one.rest)
  if mesh:
    axes = {name: int(n) for name, n in re.findall(r"'(\w+)'=(\d+)", mesh[1])}
    along = [list(axes).index(name) for name in re.findall(r"'(\w+)'", mesh[2])]
    ids = np.arange(math.prod(axes.values())).reshape([*axes.values()])
    ids = np.moveaxis(ids, along, range(-len(along), 0))
    return ids.reshape(-1, math.prod(ids.shape[ids.ndim - len(along) :])).tolist()
  if "replica_groups={}" in one.rest:
    return [list(range(module.devices))]
  raise ValueError(f"{one.op} {one.name}: its groups have an unknown notation: {one.rest[:200]}")
