"""What one call of a compiled program costs a device: FLOPs, bytes, launches, messages."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

import numpy as np

from kdjax.hardware.hlo import Array, Computation, Instruction, Module
from kdjax.hardware.target import Target

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
PASSES = 6  # in bfloat16, of a TPU's product of float32 at the highest precision
FREE = {  # neither run nor move anything by themselves
  *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional"),
  *("call", "after-all", "partition-id", "replica-id", "opt-barrier", "domain", "async-start"),
  *("add-dependency", "async-update"),
}
HELD = (
  "AllocateBuffer",
  "Sharding",
  "SPMDFullToShardShape",
  "SPMDShardToFullShape",
  "AssumeGather",
)


@dataclasses.dataclass(frozen=True)
class Product:
  """A convolution or a matrix product."""

  kind: str  # 'convolution' or 'product'
  dtype: str  # of what is multiplied
  layout: str  # a convolution's dimensions, 'b01f_01io->b01f', as the compiler left them
  flops: float  # two a multiply-add
  exact: bool  # whether asked for at the highest precision


@dataclasses.dataclass
class Cost:
  """Of one call, a device."""

  flops: float = 0.0  # of convolutions and products
  arithmetic: float = 0.0  # seconds that these take at the device's peak
  moved: float = 0.0  # bytes to and from memory
  launches: float = 0.0  # kernels, each launched by itself
  replayed: float = 0.0  # seconds of a call, were all kernels launched from command buffers
  seconds: dict[str, float] = dataclasses.field(
    default_factory=lambda: collections.defaultdict(float)
  )
  collectives: dict[str, list[float]] = dataclasses.field(default_factory=dict)  # [number, bytes]
  products: dict[tuple[str, str, str], float] = dataclasses.field(
    default_factory=lambda: collections.defaultdict(float)
  )  # (kind, dtype, layout): how many

  @property
  def time(self) -> float:
    """Seconds of a call, if every kernel takes what its slowest side takes, and none overlap."""
    return sum(self.seconds.values())

  @property
  def binds(self) -> str:
    """The side that takes most of that time."""
    return max(self.seconds, key=lambda side: self.seconds[side], default="nothing")


def cost(module: Module, target: Target) -> Cost:
  """The cost of a compiled program on a target."""
  out = Cost()
  for one, computation, times in module.runs():
    for part, there in ((one, computation), *module.within(one)):  # TPUs fuse some with a slice
      if part.op.removesuffix("-start") in COLLECTIVES:
        seconds = times * _message(out, module, part, there, one, times, target)
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
  """Seconds of one collective, which is counted; `whole`: itself, or the fusion that holds it."""
  together = groups(module, one)
  if max(map(len, together), default=1) == 1:
    return 0.0
  kind = one.op.removesuffix("-start")
  if kind == "all-reduce" and whole.nbytes < one.nbytes:
    kind = "reduce-scatter"  # of the sum a device keeps its slice
  sent = message(kind, max(map(len, together)), _given(one, computation))
  entry = out.collectives.setdefault(kind, [0.0, 0.0])
  entry[0] += times
  entry[1] += times * sent
  if any(len({device // target.host for device in group}) > 1 for group in together):
    return sent / target.network
  # A permutation goes to one neighbour; a ring, all others, over all of a chip's links.
  return sent / (target.link / target.links if kind == "collective-permute" else target.link)


def _given(one, computation):
  return sum(computation[name].nbytes for name in one.operands if name in computation)


def rate(target: Target, product: Product) -> float:
  """FLOP/s of a product; a dtype that the target's file does not name runs as float32.

  By JAX's default, NVIDIA's cards multiply float32 as TF32, and TPUs as bfloat16 in one pass; at
  the highest precision TPUs take six.
  """
  if target.kind == "tpu" and product.exact and product.dtype == "f32":
    return target.peak["float32"] / PASSES
  names = {"bf16": "bfloat16", "f16": "float16", "f32": "tf32", "f64": "float64"}
  name = names.get(product.dtype, product.dtype)
  exact = product.exact and name == "tf32"
  return target.peak.get("float32" if exact else name, target.peak["float32"])


def runs(one: Instruction) -> bool:
  """Whether an instruction is work of its own."""
  if one.op in FREE or one.op.endswith("-done"):
    return False
  return not (one.op == "custom-call" and any(f'"{name}' in one.rest for name in HELD))


def message(kind: str, n: int, given: float) -> float:
  """Bytes that one device sends in a collective, by the ring that moves least.

  Args:
    kind: one of `COLLECTIVES`.
    n: devices that take part.
    given: bytes that each of them gives.
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


def groups(module: Module, one: Instruction) -> list[list[int]]:
  """Which devices take part together in a collective; of a permutation, which sends to which.

  '{{0,1},{2,3}}'; '[groups,size]<=[dims]T(order)', all devices in rows; "mesh['a'=2,'b'=4] {'b'}",
  those that differ in some axes alone; '{}', all.

  Raises:
    ValueError: for a notation that is not known; a guess would price it wrong.
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
  raise ValueError(f"{one.op} {one.name}: its groups are written in no known way: {one.rest[:200]}")


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
  if one.op == "dynamic-update-slice":
    return 2 * min(_memory(one), computation[one.operands[1]].padded)
  read = sum(_memory(computation[name]) for name in one.operands if name in computation)
  if one.op in ("dynamic-slice", "gather", "slice", "slice-start"):
    read = min(read, one.result[-1 if one.op == "gather" else 0].padded)
  if one.op == "copy-start":  # (to, from, ...): both ends, as far as they are main memory
    return _held(one.result[:2])
  return read + _held(_results(one))


def _results(one):
  """The arrays that an instruction writes; not its operands again, nor a library's scratch."""
  if one.op.removesuffix("-start") in COLLECTIVES and one.op.endswith("-start"):
    n = len(one.operands)  # (operands, results, ...), or the results alone
    return one.result[n : 2 * n] or one.result
  if one.op == "custom-call" and re.search(r'"__cu(dnn|blas)', one.rest):
    return [x for i, x in enumerate(one.result) if i == 0 or x.dtype not in ("u8", "s8")]
  return one.result


def _memory(one):
  """Bytes of a result as far as it lives in main memory."""
  return _held(one.result)


def _held(arrays):
  return sum(x.padded for x in arrays if x.in_memory)


def _read(module, inner, name):
  """Bytes that a fused computation reads of one of its values: slices where it takes no more."""
  total = 0.0
  for user in inner.values():
    for position, operand in enumerate(user.operands):
      if operand != name:
        continue
      if user.op in ("dynamic-slice", "gather", "slice") and position == 0:
        total += user.padded
      elif user.op == "dynamic-update-slice" and position == 0:
        pass  # in place
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


def _written(inner):
  """Bytes that a fused computation writes: updates alone where it updates in place."""

  def of(one):
    if one.op in ("bitcast", "tuple") and one.operands:
      return sum(of(inner[name]) for name in one.operands if name in inner)
    if one.op == "dynamic-update-slice":
      return inner[one.operands[1]].padded
    return one.padded

  return sum(of(one) for one in inner.values() if one.root)


def found(module: Module, one: Instruction, computation: Computation) -> Iterator[Product]:
  """The convolutions and matrix products of an instruction, those inside a fusion too."""
  for part, there in ((one, computation), *module.within(one)):
    arrays = [there[name].result[0] for name in part.operands if name in there]
    if part.op == "convolution":
      yield _convolution(part, arrays[0], arrays[1], part.result[0])
    elif part.op == "dot":
      contracted = part.field(r"lhs_contracting_dims=\{([\d,]*)\}")
      yield _product(part, arrays[0], contracted)
    elif part.op == "custom-call" and "cudnn$conv" in part.rest:
      roles = arrays[0], arrays[1], part.result[0]  # what it reads, its kernel, what comes out
      if "BackwardInput" in part.rest:
        roles = part.result[0], arrays[1], arrays[0]
      elif "BackwardFilter" in part.rest:
        roles = arrays[0], part.result[0], arrays[1]
      yield _convolution(part, *roles, multiplied=arrays[0].dtype)
    elif part.op == "custom-call" and "cublas" in part.rest:
      contracted = part.field(r'lhs_contracting_dimensions":\["?([\d",]*)"?\]')
      yield _product(part, arrays[0], contracted.replace('"', ""))


def _exact(one):
  """Whether a product is asked for at the highest precision, in either notation."""
  return bool(re.search(r"operand_precision\W+(\w+\W+)?highest", one.rest, re.IGNORECASE))


def _product(one, left, contracted):
  size = math.prod(left.shape[int(d)] for d in contracted.split(",") if d)
  flops = 2.0 * math.prod(one.result[0].shape) * size
  return Product("product", left.dtype, "", flops, _exact(one))


def _convolution(one: Instruction, read: Array, kernel: Array, out: Array, multiplied: str = ""):
  """FLOPs as XLA counts them: a multiply-add for each pair of numbers that are both there."""
  labels = one.field(r"dim_labels=([\w?]+_[\w?]+->[\w?]+)")
  from_, rest = labels.split("_")
  weights, to = rest.split("->")
  spatial = sorted(c for c in to if c.isdigit())
  window = one.field(r"window=\{([^}]*)\}")
  entries = dict(re.findall(r"(\w+)=([^\s}]+)", window))

  def entry(name, i, default):
    return entries[name].split("x")[i] if name in entries else default

  pairs = 1
  for i, d in enumerate(spatial):
    low = int(entry("pad", i, "0_0").split("_")[0])
    pairs *= _pairs(
      n=read.shape[from_.index(d)],
      k=kernel.shape[weights.index(d)],
      out=out.shape[to.index(d)],
      low=low,
      stride=int(entry("stride", i, 1)),
      spread=int(entry("lhs_dilate", i, 1)),
      dilation=int(entry("rhs_dilate", i, 1)),
    )
  features = out.shape[to.index("b")] * out.shape[to.index("f")] * kernel.shape[weights.index("i")]
  kind = "convolution" if spatial else "product"
  laid = labels if spatial else ""
  return Product(kind, multiplied or read.dtype, laid, 2.0 * features * pairs, _exact(one))


def _pairs(*, n, k, out, low, stride, spread, dilation):
  """Pairs (place of the output, place in the kernel) along one axis that meet a number."""
  at = stride * np.arange(out)[:, None] + dilation * np.arange(k) - low
  return int(((at >= 0) & (at <= (n - 1) * spread) & (at % spread == 0)).sum())
