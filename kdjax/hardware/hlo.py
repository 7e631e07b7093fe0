"""Reads the text of a compiled program into computations and instructions.

XLA's own cost analysis counts the body of a loop once. `Module.runs` counts every instruction as
often as a call runs it, by the trips of the loops around it.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterator

SIZES = {"pred": 1, "bf16": 2, "s4": 0.5, "u4": 0.5, "c64": 8, "c128": 16, "token": 0}
_SHAPE = re.compile(r"\b(pred|token|[a-z]+\d+(?:e\d+m\d+\w*)?)\[([\d,]*)\](\{[^}]*\})?")
_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .* )?\{$")
_LINE = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (.*)$")
_CALLED = re.compile(r"\b(calls|body|condition|to_apply)=%?([\w.\-]+)")
_DEVICES = re.compile(r"\b(?:num_partitions|replica_count)=(\d+)")
_TILES = re.compile(r"T((?:\([\d,]+\))+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Array:
  """One array of an instruction's result."""

  dtype: str
  shape: tuple[int, ...]
  layout: str

  @functools.cached_property
  def nbytes(self) -> float:
    """Bytes without padding."""
    return math.prod(self.shape) * _size(self.dtype)

  @functools.cached_property
  def padded(self) -> float:
    """Bytes in memory; a layout with tiles, as on TPUs, takes whole tiles.

    `{1,0:T(8,128)(2,1)}` has the two minor dimensions in tiles of 8 x 128, and these in pairs.
    """
    tiles = _TILES.search(self.layout)
    if not tiles:
      return self.nbytes
    order = re.match(r"\{([\d,]*)", self.layout).group(1)  # type: ignore[union-attr]
    dims = [self.shape[int(d)] for d in reversed(order.split(",")) if d]  # the minor dimension last
    for text in re.findall(r"\(([\d,]+)\)", tiles.group(1)):
      tile = [int(n) for n in text.split(",")]
      dims = [1] * (len(tile) - len(dims)) + dims
      tiled = [math.ceil(n / t) for n, t in zip(dims[-len(tile) :], tile, strict=True)]
      dims = dims[: -len(tile)] + tiled + tile
    return math.prod(dims) * _size(self.dtype)

  @property
  def in_memory(self) -> bool:
    """Whether it is in the device's main memory; S(n) is on the chip or the host."""
    return re.search(r"S\([1-9]", self.layout) is None


def _size(dtype):
  if dtype in SIZES:
    return SIZES[dtype]
  digits = re.search(r"\d+", dtype)
  return int(digits.group()) / 8 if digits else 0


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One instruction, a line of the text."""

  name: str
  op: str
  result: tuple[Array, ...]
  operands: tuple[str, ...]
  rest: str  # the text after the operands
  root: bool
  inside: str  # the text of the operands

  @property
  def nbytes(self) -> float:
    """Bytes of its result without padding."""
    return sum(x.nbytes for x in self.result)

  @property
  def padded(self) -> float:
    """Bytes of its result in memory."""
    return sum(x.padded for x in self.result)

  def field(self, pattern: str) -> str:
    """The first group of a pattern in the text after its operands, or ''."""
    found = re.search(pattern, self.rest)
    return (found.group(1) or "") if found else ""


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Module:
  """A compiled program."""

  computations: dict[str, Computation]
  entry: str
  devices: int  # the number of devices that run it together

  def runs(
    self, name: str = "", choose: Callable[[list[str]], list[str]] = list
  ) -> Iterator[tuple[Instruction, Computation, float]]:
    """Yields (instruction, its computation, how often a call runs it).

    A fusion is one instruction; those of its computation are not yielded.

    Args:
      name: the computation that is called; '': the whole program.
      choose: (branches of a conditional) -> those to yield, as if each ran every time.
    """
    yield from self._runs(name or self.entry, 1.0, choose)

  def _runs(self, name, times, choose):
    computation = self.computations[name]
    for one in computation.values():
      yield one, computation, times
      if one.op == "while":
        yield from self._runs(_called(one, "body"), times * self.trips(one), choose)
      elif one.op == "conditional":
        for branch in choose(branches(one)):
          yield from self._runs(branch, times, choose)
      elif one.op in ("call", "async-start"):
        body = _called(one, "to_apply") or _called(one, "calls")
        if body in self.computations:
          yield from self._runs(body, times, choose)

  def fused(self, fusion: Instruction) -> Computation:
    """The computation of a fusion."""
    return self.computations.get(_called(fusion, "calls"), {})

  def within(self, one: Instruction) -> Iterator[tuple[Instruction, Computation]]:
    """Yields the instructions inside a fusion, nested ones too, each with its computation."""
    if one.op != "fusion":
      return
    inner = self.fused(one)
    for part in inner.values():
      yield part, inner
      yield from self.within(part)

  def trips(self, loop: Instruction) -> int:
    """The trips of a loop: XLA's known count, or else the bound in its condition.

    It is 1 if there is neither, and the length is a traced value.
    """
    known = loop.field(r'known_trip_count"?:\s*\{"?n"?:\s*"?(\d+)')
    if known:
      return int(known)
    condition = self.computations.get(_called(loop, "condition"), {})
    parts = [*condition.values()]
    parts += [inner for one in condition.values() for inner, _ in self.within(one)]
    if not any(p.op == "compare" and "direction=LT" in p.rest for p in parts):
      return 1
    bounds = [int(p.inside) for p in parts if p.op == "constant" and p.inside.isdecimal()]
    return max([1, *bounds])  # a constant that is no bound may be 0


def _called(one, what):
  return dict(_CALLED.findall(one.rest)).get(what, "")


def branches(one: Instruction) -> list[str]:
  """The computations of a conditional."""
  out = []
  for several, single in _BRANCHES.findall(one.rest):
    out += [name.strip().lstrip("%") for name in (several or single).split(",")]
  return out


def parse(text: str) -> Module:
  """A module from `compiled.as_text()`.

  Raises:
    ValueError: if there is no entry.
  """
  computations: dict[str, Computation] = {}
  entry, name = "", ""
  for line in text.splitlines():
    head = _HEAD.match(line)
    if head and not line.startswith(" "):
      name = head.group(1)
      computations[name] = {}
      entry = name if line.startswith("ENTRY") else entry
    elif line.startswith("}"):
      name = ""
    elif name and (found := _LINE.match(line)):
      one = _instruction(*found.groups())
      computations[name][one.name] = one
  if not entry:
    raise ValueError("the text has no ENTRY: it is not a compiled program")
  devices = math.prod(map(int, _DEVICES.findall(text.partition("\n")[0])))
  return Module(computations, entry, devices)


def _instruction(root, name, text):
  """Parses a line: `name = shape op(operands), rest`."""
  shape, at = _balanced(text, 0) if text.startswith("(") else (None, 0)
  if shape is None:
    at = _end_of_shape(text)
    shape = text[:at]
  begin = text.index("(", at)
  op = text[at:begin].strip()
  inside, end = _balanced(text, begin)
  arrays = tuple(
    Array(dtype, tuple(int(n) for n in dims.split(",") if n), layout or "")
    for dtype, dims, layout in _SHAPE.findall(re.sub(r"/\*.*?\*/", "", shape))
  )
  # Compiled text marks names with %, text that is only lowered does not.
  operands = tuple(re.findall(r"%([\w.\-]+)" if "%" in inside else r"[\w.\-]+", inside))
  return Instruction(name, op, arrays, operands, text[end:], bool(root), inside[1:-1])


def _end_of_shape(text):
  depth = 0
  for i, c in enumerate(text):
    depth += (c in "{[(") - (c in "}])")
    if c == " " and depth == 0:
      return i
  raise ValueError(f"not an instruction: {text[:80]!r}")


def _balanced(text, begin):
  """(the parenthesised text that begins there, the position after it)."""
  depth = 0
  for i in range(begin, len(text)):
    depth += (text[i] == "(") - (text[i] == ")")
    if depth == 0:
      return text[begin : i + 1], i + 1
  raise ValueError(f"unbalanced: {text[:80]!r}")
