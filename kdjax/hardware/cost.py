"""The cost of one call of a compiled program on a device: FLOPs, bytes, launches, messages."""

import collections
import dataclasses
import re

from kdjax.hardware.collectives import COLLECTIVES, continues, groups, message
from kdjax.hardware.hlo import Computation, Instruction, Module
from kdjax.hardware.products import found, rate
from kdjax.hardware.target import Target

FREE = {  # operations that do no work of their own and move no bytes
  *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional"),
  *("call", "after-all", "partition-id", "replica-id", "opt-barrier", "domain", "async-start"),
  *("add-dependency", "async-update"),
}
HELD = (  # custom calls that do no work of their own
  "AllocateBuffer",
  "Sharding",
  "SPMDFullToShardShape",
  "SPMDShardToFullShape",
  "AssumeGather",
)


@dataclasses.dataclass
class Cost:
  """The cost of one call on one device."""

  flops: float = 0.0  # FLOPs of convolutions and products
  arithmetic: float = 0.0  # seconds of these at the device's peak
  moved: float = 0.0  # bytes to and from memory
  launches: float = 0.0  # kernels, each launched by itself
  replayed: float = 0.0  # seconds of a call if all kernels were launched from command buffers
  seconds: dict[str, float] = dataclasses.field(
    default_factory=lambda: collections.defaultdict(float)
  )
  collectives: dict[str, list[float]] = dataclasses.field(default_factory=dict)  # [number, bytes]
  products: dict[tuple[str, str, str], float] = dataclasses.field(
    default_factory=lambda: collections.defaultdict(float)
  )  # (kind, dtype, layout): how many

  @property
  def time(self) -> float:
    """Seconds of a call: each kernel takes as long as its slowest side, and none overlap."""
    return sum(self.seconds.values())

  @property
  def binds(self) -> str:
    """The side that takes most of that time: compute, memory, launches or messages."""
    return max(self.seconds, key=lambda side: self.seconds[side], default="nothing")


def cost(module: Module, target: Target, name: str = "") -> Cost:
  """The cost of a compiled program on a target, with the dearest branch of every conditional.

  Args:
    module: the program.
    target: Target.
    name: the computation to price; '': the whole program.
  """
  out = Cost()
  dearest = lambda names: [max(names, key=lambda name: cost(module, target, name).time)]
  for one, computation, times in module.runs(name, dearest):
    # A TPU fuses some collectives with a slice.
    for part, scope in ((one, computation), *module.within(one)):
      if part.op.removesuffix("-start") in COLLECTIVES and not continues(part):
        seconds = times * _message(out, module, part, scope, one, times, target)
        out.seconds["messages"] += seconds
        out.replayed += seconds
    if not runs(one):
      continue
    moved = traffic(module, one, computation)
    products = list(found(module, one, computation))
    compute = sum(p.flops / rate(target, p) for p in products)
    sides = {"compute": compute, "memory": moved / target.bandwidth, "launches": target.launch}
    side = max(sides, key=lambda name: sides[name])
    out.seconds[side] += times * sides[side]
    out.replayed += times * max(compute, sides["memory"], target.graph_launch)
    out.flops += times * sum(p.flops for p in products)
    out.arithmetic += times * compute
    out.moved += times * moved
    out.launches += times
    for p in products:
      out.products[p.kind, p.dtype, p.layout] += times
  return out


def _message(out, module, one, computation, whole, times, target):
  """Counts a collective and returns its seconds; `whole` is itself, or the fusion around it."""
  together = groups(module, one)
  if max(map(len, together), default=1) == 1:
    return 0.0
  kind = one.op.removesuffix("-start")
  if kind == "all-reduce" and whole.nbytes < one.nbytes:
    kind = "reduce-scatter"  # a device keeps only its slice of the sum
  sent = message(kind, max(map(len, together)), _given(one, computation))
  entry = out.collectives.setdefault(kind, [0.0, 0.0])
  entry[0] += times
  entry[1] += times * sent
  if any(len({device // target.host for device in group}) > 1 for group in together):
    return sent / target.network
  # A permutation goes to one neighbour; all other collectives use all links of a chip.
  return sent / (target.link / target.links if kind == "collective-permute" else target.link)


def _given(one, computation):
  return sum(computation[name].nbytes for name in one.operands if name in computation)


def runs(one: Instruction) -> bool:
  """Whether an instruction does work of its own."""
  if one.op in FREE or one.op.endswith("-done"):
    return False
  return not (one.op == "custom-call" and any(f'"{name}' in one.rest for name in HELD))


def traffic(module: Module, one: Instruction, computation: Computation) -> float:
  """Bytes that an instruction reads from and writes to main memory."""
  if one.op == "fusion":
    inner = module.fused(one)
    names = {p.inside: p.name for p in inner.values() if p.op == "parameter"}
    read = sum(
      min(_memory(computation[name]), _read(module, inner, names[str(i)]))
      for i, name in enumerate(one.operands)
      if str(i) in names and name in computation
    )
    return read + min(_memory(one), _written(inner))
  if updated := _updated(one):
    updates = sum(computation[one.operands[update]].padded for update in updated.values())
    return 2 * min(_memory(one), updates)
  if one.op == "slice-start":  # (from, part, ...): the part is read, and written if it is in memory
    whole, part = one.result[:2]
    return part.padded * (whole.in_memory + part.in_memory)
  read = sum(_memory(computation[name]) for name in one.operands if name in computation)
  if one.op in ("dynamic-slice", "gather", "slice"):
    read = min(read, one.padded)
  if one.op == "copy-start":  # (to, from, ...): both ends count if they are in main memory
    return _held(one.result[:2])
  return read + _held(_results(one))


def _results(one):
  """The arrays that an instruction writes, without its operands and a library's scratch."""
  if one.op.removesuffix("-start") in COLLECTIVES and one.op.endswith("-start"):
    n = len(one.operands)  # (operands, results, ...), or the results alone
    return one.result[n : 2 * n] or one.result
  if one.op == "custom-call" and re.search(r'"__cu(dnn|blas)', one.rest):
    return [x for i, x in enumerate(one.result) if i == 0 or x.dtype not in ("u8", "s8")]
  return one.result


def _memory(one):
  """Bytes of an instruction's results in main memory."""
  return _held(one.result)


def _held(arrays):
  return sum(x.padded for x in arrays if x.in_memory)


def _read(module, inner, name):
  """Bytes that a fused computation reads of one value: only slices, if it reads no more."""
  total = 0.0
  for user in inner.values():
    for position, operand in enumerate(user.operands):
      if operand != name:
        continue
      if user.op in ("dynamic-slice", "gather", "slice") and position == 0:
        total += user.padded
      elif position in _updated(user):
        pass  # the update is in place
      elif _hands_on(user) or continues(user):
        pass
      elif user.op == "bitcast":
        total += _read(module, inner, user.name)
      elif user.op == "fusion":
        deeper = module.fused(user)
        inside = [p.name for p in deeper.values() if p.op == "parameter"]
        numbers = [p.inside for p in deeper.values() if p.op == "parameter"]
        at = inside[numbers.index(str(position))]
        total += min(inner[name].padded, _read(module, deeper, at))
      else:
        return inner[name].padded
  return min(total, inner[name].padded)


def _hands_on(one):
  """Whether an instruction gives its operands on as they are, also to a message's next kernel."""
  return one.op == "tuple" or '"AsyncCollective' in one.rest


def _updated(one):
  """{position of an operand that an instruction updates in place: position of its update}."""
  if one.op == "dynamic-update-slice":
    return {0: 1}
  if one.op == "scatter":  # (arrays..., indices, updates...)
    n = len(one.operands) // 2
    return {i: n + 1 + i for i in range(n)}
  return {}


def _written(inner):
  """Bytes that a fused computation writes: only the update, if it updates in place."""

  def of(one):
    if (one.op == "bitcast" or _hands_on(one)) and one.operands:
      return sum(of(inner[name]) for name in one.operands if name in inner)
    if updated := _updated(one):
      return sum(inner[one.operands[update]].padded for update in updated.values())
    if one.op == "parameter" or continues(one):
      return 0
    return one.padded

  return sum(of(one) for one in inner.values() if one.root)
