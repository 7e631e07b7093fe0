"""How a run is laid out on the hardware: devices, mesh, local map, convolutions.

None of this changes a result beyond rounding, so it is chosen by what was measured: `measured.csv`
holds times of one training step of K clients, a row a form, as `python -m benchmarks maps` takes
them. A run takes the form that was fastest where network and K are nearest to its own.
"""

import csv
import dataclasses
import functools
import importlib.resources
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from kdjax.core import files, machine
from kdjax.core.mapping import MAPS
from kdjax.core.passes import eval_mode
from kdjax.models.conv import LOWERINGS
from kdjax.types import Cohort, ConfigError


class Form(NamedTuple):
  """How the clients of a run are laid out."""

  local_map: str  # the local map, one of `mapping.MAPS`
  conv: str  # one of `conv.LOWERINGS`
  spread: bool  # whether clients are spread over host devices, at most one a core


class Load(NamedTuple):
  """What a device has to compute."""

  work: float  # multiply-adds of one client's forward pass on its batch; the heaviest client's
  convolves: bool  # whether the network has convolutions
  clients: int  # of all replicas


class Measurement(NamedTuple):
  """How long a step took."""

  backend: str  # cpu, gpu, tpu
  device: str  # see `device`
  load: Load
  form: Form
  milliseconds: float  # a step of all clients


# Of a table; `measured.csv` names network and commit too.
COLUMNS = (
  *("backend", "device", "work", "convolves", "clients"),
  *("map", "conv", "spread", "milliseconds"),
)
TIE = 0.1  # closer than that is equal: then what compiles sooner and needs less memory for any K
SOONER = ("scan", "vmap", "unroll")
MOST = 20  # steps of a dispatch
LONGEST = 2.5e10  # multiply-adds of a dispatch's forward passes: some 1.5 s on two cores
ONE_LOOP, ONE_PROGRAM = Form("scan", "direct", False), Form("vmap", "direct", False)
# Multiply-adds of one client's forward pass on a batch: below, a GPU takes longer to launch a
# loop's kernels, client by client, than to compute them.
LAUNCH_BOUND = 2e10


@functools.cache
def measured() -> tuple[Measurement, ...]:
  """All rows of `measured.csv`, and those that `kdjax measure --record` has kept."""
  shipped = importlib.resources.files("kdjax").joinpath("measured.csv").read_text()
  return (*rows(shipped), *recorded(own_table()))


def rows(text: str) -> tuple[Measurement, ...]:
  """The measurements in the text of a table."""
  return tuple(
    Measurement(
      row["backend"],
      row["device"],
      Load(float(row["work"]), row["convolves"] == "True", int(row["clients"])),
      Form(row["map"], row["conv"], row["spread"] == "True"),
      float(row["milliseconds"]),
    )
    for row in csv.DictReader(text.splitlines())
  )


def own_table() -> Path:
  """The user's own measurements."""
  return machine.cache() / "measured.csv"


def recorded(path: Path) -> tuple[Measurement, ...]:
  """The measurements of a file; none where there is no file."""
  return rows(path.read_text()) if path.exists() else ()


def keep(new: Iterable[Measurement], path: Path) -> None:
  """Adds measurements to a file; they replace those of the same setting and form."""
  setting, new = lambda m: m[:4], tuple(new)
  kept = [m for m in recorded(path) if setting(m) not in set(map(setting, new))]
  text = io.StringIO()
  table = csv.writer(text, lineterminator="\n")
  table.writerow(COLUMNS)
  table.writerows((m.backend, m.device, *m.load, *m.form, f"{m.milliseconds:.4g}") for m in kept)
  table.writerows((m.backend, m.device, *m.load, *m.form, f"{m.milliseconds:.4g}") for m in new)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.replace(path, text.getvalue().encode())


def unmeasured(backend: str, load: Load) -> Form:
  """The form of a run where nothing was measured: one batched program, or a loop over clients.

  A loop where convolutions would become grouped ones, but for small ones on a GPU.
  """
  if load.convolves and (backend != "gpu" or load.work > LAUNCH_BOUND):
    return ONE_LOOP
  return ONE_PROGRAM


def knows(rows: Iterable[Measurement], backend: str, device: str, load: Load) -> bool:
  """Whether rows of this very device are there for half to twice the clients and the work."""
  near = lambda a, b: abs(math.log(max(a, 1) / max(b, 1))) <= math.log(2) + 1e-9
  return any(
    (row.backend, row.device, row.load.convolves) == (backend, device, load.convolves)
    and near(row.load.clients, load.clients)
    and near(row.load.work, load.work)
    for row in rows
  )


def choose(
  rows: Iterable[Measurement],
  backend: str,
  device: str,
  load: Load,
  *,
  local_map: str,
  conv: str,
  spreads: tuple[bool, ...],
) -> Form:
  """The fastest measured form for a run; among equals the first of `SOONER`.

  Args:
    rows: of `measured`. Times of two machines are not compared: where this one has none, those of
      the first that has.
    backend: 'cpu', 'gpu' or 'tpu'; for one that was never measured, `unmeasured`.
    device: the name of this machine's.
    load: what there is to compute.
    local_map, conv: the config's `mesh.map` and `mesh.conv`; 'auto', or what is asked for.
    spreads: the values of `Form.spread` that the run can have.

  Raises:
    ConfigError: for a name that does not exist.
  """
  for key, value, names in (("map", local_map, MAPS), ("conv", conv, LOWERINGS)):
    if value not in ("auto", *names):
      raise ConfigError(f"mesh.{key}", value, "must be auto, " + ", ".join(names))

  def allowed(form):
    return (
      local_map in ("auto", form.local_map)
      and conv in ("auto", form.conv)
      and form.spread in spreads
    )

  usable = [
    r
    for r in rows
    if r.backend == backend and r.load.convolves == load.convolves and allowed(r.form)
  ]
  if not usable:
    form = unmeasured(backend, load)
    asked = {k: v for k, v in (("local_map", local_map), ("conv", conv)) if v != "auto"}
    return form._replace(**asked, spread=max(spreads))
  usable = [r for r in usable if r.device == device] or [
    r for r in usable if r.device == usable[0].device
  ]

  def distance(row):
    by_work = abs(math.log(row.load.work / max(load.work, 1)))
    return by_work + abs(math.log(row.load.clients / load.clients))

  nearest = min(distance(r) for r in usable)
  here = [r for r in usable if distance(r) == nearest]
  # Only a loop's memory and compilation do not grow with K.
  if load.clients > 2 * here[0].load.clients:
    here = [r for r in here if r.form.local_map == "scan"] or here
  fast = min(r.milliseconds for r in here) * (1 + TIE)
  best = [r for r in here if r.milliseconds <= fast]
  return min(best, key=lambda r: (SOONER.index(r.form.local_map), r.milliseconds)).form


def work(jaxpr: Any) -> int:
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


def device(devices: list[jax.Device] | None = None) -> str:
  """What `measured.csv` calls these devices; None: this machine's."""
  on_cpu = machine.backend() == "cpu"
  name = machine.processor() if on_cpu else (devices or jax.devices())[0].device_kind
  return name.replace(",", " ")


class Placed(NamedTuple):
  """Where and how a run's clients are computed."""

  cohorts: tuple[Cohort, ...]  # their convolutions written as `form` says
  form: Form
  mesh: Mesh
  steps_per_dispatch: int


def lay_out(
  config: dict[str, Any],
  cohorts: tuple[Cohort, ...],
  image: tuple[int, ...],
  dtype: str,
  devices: list[jax.Device] | None,
) -> Placed:
  """Devices, mesh, local map and convolutions of a run.

  Args:
    config: nested dict; its `mesh` says what is asked for.
    cohorts: all clients.
    image, dtype: of one example.
    devices: those that were asked for, or None.

  Raises:
    ConfigError: for a form that does not exist, or a batch that the `data` axis does not divide.
  """
  sizes = [len(c.ids) for c in cohorts]
  to_do = load(config, cohorts, image, dtype)
  chosen = form(config["mesh"], to_do, sizes=sizes, devices=devices)
  offered = all(_offers(c, "conv") for c in cohorts)
  return Placed(
    tuple(lowered(c, chosen.conv, remat=config["mesh"]["remat"] == "on") for c in cohorts),
    chosen,
    mesh(config, sizes, default_devices(sizes, chosen) if devices is None else devices),
    config["mesh"]["steps_per_dispatch"] or steps_per_dispatch(chosen, to_do, offered=offered),
  )


def load(
  config: dict[str, Any], cohorts: tuple[Cohort, ...], image: tuple[int, ...], dtype: str
) -> Load:
  """What a run's clients have to compute in a step; arguments as in `lay_out`."""
  return Load(
    work=max(forward_work(c, image, config["batch"], dtype) for c in cohorts),
    convolves=any(x.ndim == 4 for c in cohorts for x in jax.tree.leaves(c.template.params)),
    clients=sum(len(c.ids) for c in cohorts),
  )


def forward_work(cohort: Cohort, image: tuple[int, ...], batch: int, dtype: str) -> int:
  """Multiply-adds of one client's forward pass on a batch."""
  images = jax.ShapeDtypeStruct((batch, *image), dtype)
  forward = jax.make_jaxpr(functools.partial(eval_mode, cohort.model))
  return work(forward(cohort.template, images).jaxpr)


def _offers(cohort, choice):
  """Whether a cohort's network has the field `conv`, or `remat`; a user's own may not."""
  return choice in {field.name for field in dataclasses.fields(cohort.model)}


def rematerialises(cohorts: tuple[Cohort, ...]) -> bool:
  """Whether any network could keep less for its backward pass, and does not yet."""
  return any(_offers(c, "remat") and not c.model.remat for c in cohorts)  # type: ignore[attr-defined]


def lowered(cohort: Cohort, conv: str, *, remat: bool) -> Cohort:
  """The cohort, its convolutions written so, rematerialised or not, where its network can."""
  chosen: dict[str, Any] = {"conv": conv} | ({"remat": True} if remat else {})
  offered = {key: value for key, value in chosen.items() if _offers(cohort, key)}
  return dataclasses.replace(cohort, model=cohort.model.clone(**offered))


def form(
  mesh: dict[str, Any], load: Load, *, sizes: list[int], devices: list[jax.Device] | None
) -> Form:
  """The Form of a run; `choose` on this machine.

  Args:
    mesh: the config's.
    load: what there is to compute.
    sizes: clients of each cohort, all replicas.
    devices: those that were asked for, or None.
  """
  backend = machine.backend()
  if backend != "cpu" or jax.process_count() > 1:
    spreads: tuple[bool, ...] = (False,)
  elif devices is None:
    spreads = (False, True) if host_devices(sizes, len(jax.devices())) > 1 else (False,)
  else:
    spreads = (len(devices) > 1,)
  asked = dict(local_map=mesh["map"], conv=mesh["conv"], spreads=spreads)
  # Hosts may differ, their programs may not.
  name = device(devices) if jax.process_count() == 1 else ""
  return choose(measured(), backend, name, load, **asked)


def host_devices(sizes: list[int], most: int) -> int:
  """Among how many host devices, at most so many, all cohorts can be shared evenly."""
  return next(n for n in range(most, 0, -1) if math.gcd(*sizes) % n == 0)


def default_devices(sizes: list[int], form: Form) -> list[jax.Device]:
  """The devices of a run that names none: all; of a CPU's host devices, as many as clients use.

  Args:
    sizes: clients of each cohort, all replicas.
    form: Form.
  """
  if machine.backend() != "cpu" or jax.process_count() > 1:
    return jax.devices()
  everywhere = jax.devices()
  return everywhere[: host_devices(sizes, len(everywhere)) if form.spread else 1]


def mesh(config: dict[str, Any], sizes: list[int], devices: list[jax.Device]) -> Mesh:
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
  # On a torus an axis of the mesh may need parts of two of its axes: 8 x 2 on 4 x 4 chips.
  laid = mesh_utils.create_device_mesh((client, data), devices, allow_split_physical_axes=True)
  return Mesh(laid, ("client", "data"), axis_types=(AxisType.Auto,) * 2)


def steps_per_dispatch(form: Form, load: Load, *, offered: bool) -> int:
  """Steps that one dispatch holds: many where none is long and no slow convolution is looped.

  They share what a dispatch costs: the host's part, and a page fault for every 4 KiB of scratch.

  Args:
    form: Form.
    load: what there is to compute.
    offered: whether all networks let their convolutions be written as the form says; a user's own
      may hold some whose gradients are slow in a loop. So are grouped ones.
  """
  slow = load.convolves and (not offered or (form.local_map, form.conv) == ("vmap", "direct"))
  return 1 if slow else min(MOST, max(1, int(LONGEST / (load.work * load.clients))))
