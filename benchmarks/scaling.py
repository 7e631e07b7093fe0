"""Scaling by compiled programs: `python -m benchmarks.scaling h100 scaling.json`.

It compiles programs of three methods on CIFAR-10 for 8 to 256 devices that are not at hand. In weak
scaling there is one client per device. In strong scaling the devices share eight clients' batches
of 512. A row per phase has the FLOPs, temporaries and messages of a device. An existing file is
continued; `--draw=FILE.svg` draws it.
"""

import argparse
import json
from pathlib import Path

from kdjax import api, elsewhere
from kdjax.core import files, machine
from kdjax.hardware import target

SIZES = (8, 16, 32, 64, 128, 256)
TORUS = {8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}  # of v5e and v6e
CNN = ("cnn", {"widths": (16, 32, 64)})
METHODS = {
  "MHD, pool": ("mhd_cifar10", {"algo.teachers": 1}),
  "MHD, pool on a cycle": ("mhd_cifar10", {"algo.teachers": 1, "graph.kind": "cycle"}),
  "MHD, fresh": ("mhd_cifar10", {"algo.teachers": 1, "algo.exchange": "fresh"}),
  "FedAvg": ("mhd_cifar10:fedavg", {}),
  "FedGKT": ("fedgkt_cifar10", {}),
}

# Phases whose one batch of a fixed size all devices share, also in weak scaling.
SHARED = ("server",)


def config(method, kind, devices):
  """A method's config for a number of devices, with weak or strong scaling."""
  name, changes = METHODS[method]
  clients, batch = (devices, 64) if kind == "weak" else (8, 512)
  common = {"partition": "equal", "primary": "random", "primary_labels": (), "labels": 2}
  common |= {"batch": batch, "compare": (), "replicas": 1}
  common["mesh.blocks"] = "scan"  # equal blocks of FedGKT's server are compiled once
  common["evals.accuracy.batch"] = 512  # shared by up to 32 devices
  found = api.get_config(name)
  who = ((clients, *CNN),)
  if method == "FedGKT":
    who = ((clients, *found.clients[0][1:]),)
  else:
    common["public_batch"] = batch
  return api.get_config(found, **common, **changes, clients=who)


def row(method, kind, devices, name):
  """The record of one plan: {phase: FLOPs, temporaries, messages of a device}."""
  where = f"{name}:{TORUS[devices] if target.parse(f'{name}:1').kind == 'tpu' else devices}"
  found = elsewhere.make(config(method, kind, devices), where)
  phases = {
    p.name: {
      "flops": p.cost.flops,
      "temporaries": p.memory.temporaries,
      "messages": {k: {"number": n, "bytes": b} for k, (n, b) in p.cost.collectives.items()},
    }
    for p in found.phases
    if p.cost and p.name != elsewhere.EVALUATION
  }
  facts = {"method": method, "kind": kind, "devices": devices, "target": where}
  return facts | {"mesh": found.layout["mesh"], "phases": phases}


def table(rows):
  """Markdown, one row per phase: FLOPs of a call against ideal scaling, memory, bytes sent."""
  header = ("method", "", "devices", "mesh", "phase", "FLOPs of ideal", "temporaries, MiB")
  header += ("KB sent a call",)
  out = ["| " + " | ".join(header) + " |"]
  out.append("|---" * len(header) + "|")
  first = {}
  for r in rows:
    key = r["method"], r["kind"]
    mesh = f"{r['mesh']['client']} x {r['mesh']['data']}"
    for name, phase in r["phases"].items():
      base = first.setdefault((*key, name), (r["devices"], phase["flops"]))
      grows = r["kind"] == "weak" and name not in SHARED
      ideal = base[1] if grows else base[1] * base[0] / r["devices"]
      share = f"{phase['flops'] / ideal:.3f}" if ideal else "none"
      sent = sum(m["bytes"] for m in phase["messages"].values())
      memory = f"{phase['temporaries'] / 2**20:,.1f}"
      cells = (share, memory, f"{sent / 1e3:,.1f}" if sent else "nothing")
      out.append("| " + " | ".join((*key, str(r["devices"]), mesh, name, *cells)) + " |")
  return "\n".join(out)


def draw(rows, path):
  """Draws FLOPs of a training step and bytes sent per device, over the number of devices."""
  from kdjax.report import style

  figure = style.figure(8.0, 3.2)
  axes = figure.subplots(1, 2)
  for i, method in enumerate(METHODS):
    for kind, line in (("weak", "-o"), ("strong", "--o")):
      own = [r for r in rows if (r["method"], r["kind"]) == (method, kind)]
      if not own:
        continue
      n = [r["devices"] for r in own]
      steps = [next(iter(r["phases"].values())) for r in own]
      sent = [
        sum(m["bytes"] for p in r["phases"].values() for m in p["messages"].values()) for r in own
      ]
      label = f"{method}, {kind}"
      look = dict(label=label, color=f"C{i}", markersize=3)
      axes[0].plot(n, [s["flops"] for s in steps], line, **look)
      axes[1].plot(n, [s / 1e3 for s in sent], line, **look)
  for one, label in zip(
    axes, ("FLOPs a step and device", "KB sent a device, all phases"), strict=True
  ):
    one.set(xscale="log", yscale="log", xlabel="devices", ylabel=label)
    one.set_xticks(SIZES, map(str, SIZES))
    one.minorticks_off()
  axes[0].legend(fontsize=6)
  figure.savefig(path)


def main():
  """Compiles the programs missing in the file, prints the table, and draws."""
  parser = argparse.ArgumentParser("python -m benchmarks.scaling", description=__doc__)
  parser.add_argument("target", help="a kind of device: v5e, h100, ...")
  parser.add_argument("file", type=Path)
  parser.add_argument("--draw", type=Path)
  parser.add_argument("--most", type=int, default=SIZES[-1], help="devices at most")
  asked = parser.parse_args()
  target.prepare()
  machine.configure_jax(1, x64=False)
  rows = json.loads(asked.file.read_text()) if asked.file.exists() else []
  done = {(r["method"], r["kind"], r["devices"]) for r in rows}
  for devices in SIZES:
    for method in METHODS:
      for kind in ("weak", "strong"):
        if (method, kind, devices) in done or devices > asked.most:
          continue
        rows.append(row(method, kind, devices, asked.target))
        rows.sort(key=lambda r: (list(METHODS).index(r["method"]), r["kind"], r["devices"]))
        files.write_json(asked.file, rows)
  print(table(rows))
  if asked.draw:
    draw(rows, asked.draw)


if __name__ == "__main__":
  main()
