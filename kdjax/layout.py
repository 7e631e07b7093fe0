"""The layout of a run on the hardware: devices, mesh, local map, convolutions.

It changes no result beyond rounding. `forms` knows which form is fastest.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from kdjax import forms
from kdjax.core import costs, hosts, machine
from kdjax.core.env import Env
from kdjax.core.passes import eval_mode, offers
from kdjax.forms import Form, Load
from kdjax.types import Cohort, ConfigError

MOST = 20  # steps of a dispatch
# Multiply-adds of a dispatch's forward passes on a device. They take some 1.5 s on two cores, and
# less than a second on an accelerator that sustains a few 10 TFLOP/s.
LONGEST, LONGEST_ACCELERATED = 2.5e10, 1e12


def work(jaxpr: Any) -> int:
  """Multiply-adds of the matrix products and convolutions in a jaxpr; loops are not entered."""
  total = 0
  for equation in jaxpr.eqns:
    out = equation.outvars[0].aval
    name = equation.primitive.name
    if name == "dot_general":
      (contracted, _), _ = equation.params["dimension_numbers"]
      total += out.size * math.prod(equation.invars[0].aval.shape[i] for i in contracted)
    elif name == "conv_general_dilated":
      kernel = equation.invars[1].aval
      features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
      total += out.size * kernel.size // features
    for inner in equation.params.values():
      inner = getattr(inner, "jaxpr", inner)  # the jaxpr of `jax.checkpoint` is open
      if hasattr(inner, "eqns") and name not in ("scan", "while"):
        total += work(inner)
  return total


def device(devices: list[jax.Device] | None = None) -> str:
  """The name of these devices in `measured.csv`; None: this machine's devices."""
  on_cpu = machine.backend() == "cpu"
  name = machine.processor() if on_cpu else (devices or jax.devices())[0].device_kind
  return name.replace(",", " ")


class Placed(NamedTuple):
  """The layout of a run's clients."""

  cohorts: tuple[Cohort, ...]  # with the networks of `lowered`
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
  """Chooses devices, mesh, local map and convolutions of a run.

  Args:
    config: nested dict; its group `mesh` holds the user's choices.
    cohorts: all clients.
    image, dtype: shape and dtype of one example.
    devices: the devices to use; None: `default_devices`.

  Raises:
    ConfigError: for a form that does not exist, or a batch that the `data` axis does not divide.
  """
  sizes = [len(c.ids) for c in cohorts]
  per_device = load(config, cohorts, image, dtype, devices)
  form = choose_form(config["mesh"], per_device, sizes=sizes, devices=devices)
  offered = all(offers(c.model, "conv") for c in cohorts)
  return Placed(
    tuple(lowered(c, form.conv, config["mesh"]) for c in cohorts),
    form,
    make_mesh(config, sizes, default_devices(sizes, form) if devices is None else devices),
    config["mesh"]["steps_per_dispatch"] or steps_per_dispatch(form, per_device, offered=offered),
  )


def load(
  config: dict[str, Any],
  cohorts: tuple[Cohort, ...],
  image: tuple[int, ...],
  dtype: str,
  devices: list[jax.Device] | None,
) -> Load:
  """The work of a device in a step; on a CPU, whose devices share its cores, the whole work.

  The arguments are those of `lay_out`.
  """
  sizes = [len(c.ids) for c in cohorts]
  client, data = (1, 1) if machine.backend() == "cpu" else sides(sizes, devices or jax.devices())
  batch = max(1, config["batch"] // data)
  return Load(
    work=max(forward_work(c, image, batch, dtype) for c in cohorts),
    convolves=any(x.ndim == 4 for c in cohorts for x in jax.tree.leaves(c.template.params)),
    clients=sum(sizes) // client,
  )


def forward_work(cohort: Cohort, image: tuple[int, ...], batch: int, dtype: str) -> int:
  """Multiply-adds of one client's forward pass on a batch."""
  images = jax.ShapeDtypeStruct((batch, *image), dtype)
  forward = jax.make_jaxpr(functools.partial(eval_mode, costs.unlooped(cohort.model)))
  return work(forward(cohort.template, images).jaxpr)


def rematerialises(cohorts: tuple[Cohort, ...]) -> bool:
  """Whether any network can recompute activations in its backward pass, and does not yet."""
  return any(offers(c.model, "remat") and not c.model.remat for c in cohorts)  # type: ignore[attr-defined]


def thriftier(options: dict[str, Any], env: Env) -> list[dict[str, str]]:
  """Changes of `config.mesh` that need less memory with the same results, each less than the last.

  Only options that the config leaves to kdjax are changed.

  Args:
    options: `config.mesh`.
    env: the Env of the experiment as it is laid out.
  """
  changes = []
  first = {}
  has_several = env.clients > env.mesh.shape["client"]  # clients on a device
  if options["map"] == "auto" and env.local_map != "scan" and has_several:
    first = {"map": "scan"}
    changes.append(first)
  if options["remat"] == "auto" and rematerialises(env.cohorts):
    changes.append(first | {"remat": "on"})
  return changes


def lowered(cohort: Cohort, conv: str, options: dict[str, Any]) -> Cohort:
  """The cohort with its network in the form of the layout, as far as the network offers it.

  Args:
    cohort: Cohort.
    conv: how its convolutions are written.
    options: `config.mesh`. `remat`: whether activations are recomputed in the backward pass;
      `blocks`: whether equal blocks are a loop.
  """
  chosen: dict[str, Any] = {"conv": conv, "scan": options["blocks"] == "scan"}
  if options["remat"] == "on":
    chosen["remat"] = True
  offered = {key: value for key, value in chosen.items() if offers(cohort.model, key)}
  return dataclasses.replace(cohort, model=cohort.model.clone(**offered))


def choose_form(
  options: dict[str, Any], load: Load, *, sizes: list[int], devices: list[jax.Device] | None
) -> Form:
  """Chooses the Form of a run by `forms.choose` on this machine.

  Args:
    options: `config.mesh`.
    load: the work of a device.
    sizes: clients of each cohort, all replicas.
    devices: the devices to use; None: `default_devices`.
  """
  backend = machine.backend()
  if backend != "cpu" or not hosts.alone():
    spreads: tuple[bool, ...] = (False,)
  elif devices is None:
    spreads = (False, True) if host_devices(sizes, len(jax.devices())) > 1 else (False,)
  else:
    spreads = (len(devices) > 1,)
  asked = dict(local_map=options["map"], conv=options["conv"], spreads=spreads)
  # Hosts may differ, but their programs must not.
  name = device(devices) if hosts.alone() else ""
  return forms.choose(forms.measured(), backend, name, load, **asked)


def host_devices(sizes: list[int], most: int) -> int:
  """The most host devices, up to `most`, among which all cohorts can be shared evenly."""
  return next(n for n in range(most, 0, -1) if math.gcd(*sizes) % n == 0)


def default_devices(sizes: list[int], form: Form) -> list[jax.Device]:
  """The devices of a run that names none: all, but only as many host devices as clients use.

  Args:
    sizes: clients of each cohort, all replicas.
    form: Form.
  """
  if machine.backend() != "cpu" or not hosts.alone():
    return jax.devices()
  everywhere = jax.devices()
  return everywhere[: host_devices(sizes, len(everywhere)) if form.spread else 1]


def sides(sizes: list[int], devices: list[jax.Device]) -> tuple[int, int]:
  """(devices that share the clients of every cohort, devices that share each client's batch)."""
  client = math.gcd(*sizes, len(devices))
  return client, len(devices) // client


def make_mesh(config: dict[str, Any], sizes: list[int], devices: list[jax.Device]) -> Mesh:
  """The mesh (`client`, `data`); its `client` axis is as long as divides every cohort.

  Args:
    config: nested dict.
    sizes: clients of each cohort, all replicas.
    devices: jax devices.

  Raises:
    ConfigError: for a batch that the `data` axis does not divide.
  """
  client, data = sides(sizes, devices)
  for key in ("batch", "public_batch"):
    if config[key] % data:
      hint = f"must be a multiple of {data}: {len(devices)} devices, {client} of them for clients"
      raise ConfigError(key, config[key], hint)
  # On a torus an axis of the mesh may need parts of two of its axes: 8 x 2 on 4 x 4 chips.
  grid = mesh_utils.create_device_mesh((client, data), devices, allow_split_physical_axes=True)
  return Mesh(grid, ("client", "data"), axis_types=(AxisType.Auto,) * 2)


def steps_per_dispatch(form: Form, load: Load, *, offered: bool) -> int:
  """Steps that one dispatch holds: several, unless a step is long or loops over slow convolutions.

  The steps share the cost of a dispatch: the host's part, and on a CPU a page fault for every 4 KiB
  of scratch memory.

  Args:
    form: Form.
    load: the work of a device.
    offered: whether all networks write their convolutions in the layout's form. Gradients of other
      convolutions, as of a user's own network, are slow in a loop on a CPU. So are those of grouped
      convolutions.
  """
  on_cpu = machine.backend() == "cpu"
  grouped = (form.local_map, form.conv) == ("vmap", "direct")
  slow = on_cpu and load.convolves and (not offered or grouped)
  longest = LONGEST if on_cpu else LONGEST_ACCELERATED
  return 1 if slow else min(MOST, max(1, int(longest / (load.work * load.clients))))
