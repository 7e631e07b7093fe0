"""How a run is laid out on the hardware: devices, mesh, local map, convolutions.

None of this changes a result beyond rounding, so it is chosen by what was measured: `measured.csv`
holds times of one training step of K clients, a row a form, as `python -m benchmarks maps` takes
them. A run takes the form that was fastest where network and K are nearest to its own.
"""

import csv
import functools
import importlib.resources
import math
from typing import NamedTuple

import jax
from jax.sharding import AxisType

from kdjax.core import machine
from kdjax.core.mapping import MAPS
from kdjax.models.conv import LOWERINGS
from kdjax.types import ConfigError


class Form(NamedTuple):
  """How the clients of a run are laid out."""

  local_map: str  # the local map, one of `mapping.MAPS`
  conv: str  # one of `conv.LOWERINGS`
  spread: bool  # whether clients are spread over host devices, at most one a core


class Measurement(NamedTuple):
  """One measurement."""

  backend: str  # cpu, gpu, tpu
  device: str  # see `device`
  work: float  # multiply-adds of one client's forward pass on its batch
  convolves: bool  # whether the network has convolutions
  clients: int
  form: Form
  milliseconds: float  # a step of all clients


TIE = 0.1  # closer than that is equal: then what compiles sooner and needs less memory for any K
SOONER = ("scan", "vmap", "unroll")
MOST = 20  # steps of a dispatch
LONGEST = 2.5e10  # multiply-adds of a dispatch's forward passes: some 1.5 s on two cores
UNMEASURED = {True: Form("scan", "direct", False), False: Form("vmap", "direct", False)}


@functools.cache
def measured():
  """All rows of `measured.csv`."""
  text = importlib.resources.files("kdjax").joinpath("measured.csv").read_text()
  return tuple(
    Measurement(
      row["backend"],
      row["device"],
      float(row["work"]),
      row["convolves"] == "True",
      int(row["clients"]),
      Form(row["map"], row["conv"], row["spread"] == "True"),
      float(row["milliseconds"]),
    )
    for row in csv.DictReader(text.splitlines())
  )


def choose(rows, backend, device, *, work, convolves, clients, local_map, conv, spreads):
  """The fastest measured form for a run; among equals the first of `SOONER`.

  Args:
    rows: of `measured`. Times of two machines are not compared: where this one has none, those of
      the first that has.
    backend: 'cpu', 'gpu' or 'tpu'; for one that was never measured, `UNMEASURED`.
    device: the name of this machine's.
    work, convolves, clients: as in a Row.
    local_map, conv: the config's `mesh.map` and `mesh.conv`; 'auto', or what is asked for.
    spreads: the values of `Form.spread` that the run can have.

  Raises:
    ConfigError: for a name that does not exist.
  """
  for key, value, allowed in (("map", local_map, MAPS), ("conv", conv, LOWERINGS)):
    if value not in ("auto", *allowed):
      raise ConfigError(f"mesh.{key}", value, "must be auto, " + ", ".join(allowed))

  def allowed(form):
    return (
      local_map in ("auto", form.local_map)
      and conv in ("auto", form.conv)
      and form.spread in spreads
    )

  usable = [
    r for r in rows if r.backend == backend and r.convolves == convolves and allowed(r.form)
  ]
  if not usable:
    form = UNMEASURED[convolves]
    asked = {k: v for k, v in (("local_map", local_map), ("conv", conv)) if v != "auto"}
    return form._replace(**asked, spread=max(spreads))
  usable = [r for r in usable if r.device == device] or [
    r for r in usable if r.device == usable[0].device
  ]

  def distance(row):
    return abs(math.log(row.work / max(work, 1))) + abs(math.log(row.clients / clients))

  nearest = min(distance(r) for r in usable)
  here = [r for r in usable if distance(r) == nearest]
  if clients > 2 * here[0].clients:  # only a loop's memory and compilation do not grow with K
    here = [r for r in here if r.form.local_map == "scan"] or here
  fast = min(r.milliseconds for r in here) * (1 + TIE)
  best = [r for r in here if r.milliseconds <= fast]
  return min(best, key=lambda r: (SOONER.index(r.form.local_map), r.milliseconds)).form


def work(jaxpr):
  """Multiply-adds of the matrix products and convolutions in a jaxpr; loops are not entered."""
  total = 0
  for equation in jaxpr.eqns:
    out, name = equation.outvars[0].aval, equation.primitive.name
    if name == "dot_general":
      (contracted, _), _ = equation.params["dimension_numbers"]
      total += out.size * math.prod(equation.invars[0].aval.shape[i] for i in contracted)
    elif name == "conv_general_dilated":
      kernel = equation.invars[1].aval
      features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
      total += out.size * kernel.size // features
    for inner in equation.params.values():
      inner = getattr(inner, "jaxpr", inner)  # that of `jax.checkpoint` is open
      if hasattr(inner, "eqns") and name not in ("scan", "while"):
        total += work(inner)
  return total


def device():
  """What `measured.csv` calls this machine's devices."""
  on_cpu = jax.default_backend() == "cpu"
  name = machine.processor() if on_cpu else jax.devices()[0].device_kind
  return name.replace(",", " ")


def form(mesh, *, work, convolves, sizes, devices):
  """The Form of a run; `choose` on this machine.

  Args:
    mesh: the config's.
    work, convolves: as in a Row; the work of the heaviest client.
    sizes: clients of each cohort, all replicas.
    devices: those that were asked for, or None.
  """
  backend = jax.default_backend()
  if backend != "cpu" or jax.process_count() > 1:
    spreads = (False,)
  elif devices is None:
    spreads = (False, True) if host_devices(sizes, len(jax.devices())) > 1 else (False,)
  else:
    spreads = (len(devices) > 1,)
  setup = dict(work=work, convolves=convolves, clients=sum(sizes))
  asked = dict(local_map=mesh["map"], conv=mesh["conv"], spreads=spreads)
  name = device() if jax.process_count() == 1 else ""  # hosts may differ, their programs may not
  return choose(measured(), backend, name, **setup, **asked)


def host_devices(sizes, most):
  """Among how many host devices, at most so many, all cohorts can be shared evenly."""
  return next(n for n in range(most, 0, -1) if math.gcd(*sizes) % n == 0)


def devices(sizes, form):
  """The devices of a run that names none: all; of a CPU's host devices, as many as clients use.

  Args:
    sizes: clients of each cohort, all replicas.
    form: Form.
  """
  if jax.default_backend() != "cpu" or jax.process_count() > 1:
    return jax.devices()
  everywhere = jax.devices()
  return everywhere[: host_devices(sizes, len(everywhere)) if form.spread else 1]


def mesh(config, sizes, devices):
  """The mesh (`client`, `data`): as many devices to clients as divide every cohort.

  Args:
    config: nested dict.
    sizes: clients of each cohort, all replicas.
    devices: jax devices.

  Raises:
    ConfigError: for a batch that the `data` axis does not divide.
  """
  client = math.gcd(*sizes, len(devices))
  data = len(devices) // client
  for key in ("batch", "public_batch"):
    if config[key] % data:
      hint = f"must be a multiple of {data}: {len(devices)} devices, {client} of them for clients"
      raise ConfigError(key, config[key], hint)
  return jax.make_mesh(
    (client, data), ("client", "data"), axis_types=(AxisType.Auto,) * 2, devices=devices
  )


def steps_per_dispatch(form, *, work, convolves, clients, offered):
  """Steps that one dispatch holds: many where none is long and no slow convolution is looped.

  They share what a dispatch costs: the host's part, and a page fault for every 4 KiB of scratch.

  Args:
    form: Form.
    work, convolves, clients: as in a Row.
    offered: whether all networks let their convolutions be written as the form says; a user's own
      may hold some whose gradients are slow in a loop. So are grouped ones.
  """
  slow = convolves and (not offered or (form.local_map, form.conv) == ("vmap", "direct"))
  return 1 if slow else min(MOST, max(1, int(LONGEST / (work * clients))))
