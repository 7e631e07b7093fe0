"""Experiments compiled for machines that are not at hand: the tables of docs/hardware.md.

`python -m benchmarks.targets v5e:2x4,h100:8 mhd_imagenet mhd_cifar10` prints a row of Markdown for
each phase of each config on each target whose compiler is installed. With `--scan` equal blocks are
a loop (`mesh.blocks='scan'`), which a TPU's compiler finishes much sooner.
"""

import sys

from kdjax import api, elsewhere
from kdjax import elsewhere_tables as tables
from kdjax.core import machine
from kdjax.hardware import target
from kdjax.hardware.target import GIB
from kdjax.plan import human
from kdjax.types import ConfigError

COLUMNS = ("config", "target", "mesh", "phase", "GiB", "TFLOP", "moved", "launches", "messages")
COLUMNS += ("roofline", "binds", "in command buffers", "compiled in")


def rows(name, wanted, **settings):
  """The rows of one config on one target."""
  found = elsewhere.make(api.get_config(name, **settings), wanted)
  mesh, layout = found.layout["mesh"], found.layout["map"]
  changed = "".join(f", `{change}`" for change in found.changed)
  changed += ", looped blocks" if found.layout["blocks"] == "scan" else ""
  where = f"{mesh['client']} x {mesh['data']}, {layout}{changed}"
  for phase in found.phases:
    held = f"{(found.resident + phase.memory.need) / GIB:.2f} of {found.target.memory / GIB:.1f}"
    yield (f"`{name}`", wanted, where, phase.name, held, *_costs(phase, found.target))


def _costs(phase, where):
  cost = phase.cost
  if cost is None:
    return ("does not fit", *("",) * 6, f"{phase.compiling:.0f} s")
  number = sum(n for n, _ in cost.collectives.values())
  sent = sum(b for _, b in cost.collectives.values())
  return (
    f"{cost.flops / 1e12:.3g}",
    human(cost.moved),
    f"{cost.launches:,.0f}" if where.kind == "gpu" else "",
    f"{number:,.0f}: {human(sent)}" if number else "none",
    tables.duration(cost.time),
    cost.binds,
    tables.duration(cost.replayed) if where.kind == "gpu" else "",
    f"{phase.compiling:.0f} s",
  )


def main():
  """Prints the table; a config that cannot be compiled for a target has a line with its error."""
  words = sys.argv[1:]
  settings = {"mesh.blocks": "scan"} if "--scan" in words else {}
  targets, *names = [word for word in words if word != "--scan"]
  target.prepare()
  machine.configure_jax(1, x64=False)
  for line in (COLUMNS, ["-"] * len(COLUMNS)):
    print("| " + " | ".join(line) + " |", flush=True)
  for name in names:
    for wanted in targets.split(","):
      try:
        for row in rows(name, wanted, **settings):
          print("| " + " | ".join(row) + " |", flush=True)
      except ConfigError as error:
        print(f"| `{name}` | {wanted} | {error} |", flush=True)


if __name__ == "__main__":
  main()
