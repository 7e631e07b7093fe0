"""Flower: FedAvg in the setting of pfl's CIFAR-10 benchmark, in its simulation engine on Ray.

With Python 3.11, torch 2.13.0 (CPU), flwr 1.41.0 and ray 2.55.1; torch first, or pip takes its
largest build:

  pip install torch==2.13.0
  pip install 'flwr[simulation]'

As Flower documents it (how-to-run-simulations, quickstart-pytorch): a ServerApp that starts the
FedAvg strategy, a ClientApp whose `train` gets the weights and returns them trained, and
`client_resources` of one core each, so that as many clients train at a time as there are cores
(on a GPU they share it). 50 clients a round with 50 images each, 1 local epoch with batch 10, SGD
with learning rate 0.1, every client in every round, no evaluation. The data are synthetic and made
once in each of Ray's processes, and so is the network: a client only loads its weights.

One block is one `strategy.start` of `steps` rounds, from the weights of the block before. A block
in which a client failed is an error: Flower would average the others and be the faster for it.

Peak memory is that of this process and everything that Ray started, each at its own peak, so
memory that they share counts more than once.

spec: {"clients": 50, "local_steps": 5, "batch": 10, "steps": rounds in a block, "seed": 0}
"""

import functools
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from channel import connect
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch import nn
from torch_models import simple_cnn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

client_app = ClientApp()


@functools.cache
def network():
  """The network, once a process."""
  return simple_cnn().to(DEVICE)


@functools.cache
def examples(seed, client, n):
  """A client's images [n, 3, 32, 32], a view of [n, 32, 32, 3] as in pfl, and labels [n]."""
  rng = np.random.default_rng((seed, client))
  images = torch.from_numpy(rng.standard_normal((n, 32, 32, 3), np.float32))
  labels = torch.from_numpy(rng.integers(10, size=n))
  return images.to(DEVICE).permute(0, 3, 1, 2), labels.to(DEVICE)


@client_app.train()
def train(message, context):
  """One local epoch."""
  spec = message.content["config"]
  n = spec["local_steps"] * spec["batch"]
  images, labels = examples(spec["seed"], context.node_config["partition-id"], n)
  model = network()
  model.load_state_dict(message.content["arrays"].to_torch_state_dict())
  optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
  for x, y in zip(images.split(spec["batch"]), labels.split(spec["batch"]), strict=True):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
  arrays, metrics = ArrayRecord(model.state_dict()), MetricRecord({"num-examples": n})
  return Message(content=RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def peak_rss():
  """Bytes: the peaks of this process and of all its living descendants, added up."""
  parent, peak = {}, {}
  for status in Path("/proc").glob("[0-9]*/status"):
    try:
      fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    except OSError:
      continue  # it has just ended
    pid = int(fields["Pid"])
    parent[pid] = int(fields["PPid"])
    peak[pid] = 1024 * int(fields.get("VmHWM", "0 kB").split()[0])
  family = {os.getpid()}
  while children := {pid for pid in parent if parent[pid] in family} - family:
    family |= children
  return sum(peak[pid] for pid in family)


class Server:
  """The protocol, from inside Flower's simulation."""

  def __init__(self, spec, say):
    self.spec, self.say = spec, say
    self.clients_done = 0

  def count(self, contents, weighted_by):
    """Counts the clients that answered; Flower calls it once a round."""
    self.clients_done += len(contents)
    return MetricRecord({"clients": len(contents)})

  def __call__(self, grid, context):
    """Warm up, say ready, then one block for every line on stdin."""
    torch.manual_seed(self.spec["seed"])
    self.arrays = ArrayRecord(network().state_dict())
    first, second = self.block(grid), self.block(grid)
    self.say(
      ready=True,
      compile_seconds=max(0.0, first - second),
      versions={
        "python": platform.python_version(),
        **{p: version(p) for p in ("flwr", "ray", "torch", "numpy")},
      },
      device=torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
      parameters=sum(p.numel() for p in network().parameters()),
      client_steps=self.spec["clients"] * self.spec["local_steps"] * self.spec["steps"],
    )
    for _ in sys.stdin:
      self.say(seconds=self.block(grid))
    self.say(peak_rss_bytes=peak_rss())

  def block(self, grid):
    """Seconds of `steps` rounds."""
    self.clients_done = 0
    start = time.perf_counter()
    strategy = FedAvg(
      fraction_evaluate=0.0,
      min_train_nodes=self.spec["clients"],
      min_available_nodes=self.spec["clients"],
      train_metrics_aggr_fn=self.count,
    )
    config = ConfigRecord({k: self.spec[k] for k in ("local_steps", "batch", "seed")})
    result = strategy.start(grid, self.arrays, self.spec["steps"], train_config=config)
    seconds = time.perf_counter() - start
    if self.clients_done != self.spec["clients"] * self.spec["steps"]:
      raise RuntimeError(f"only {self.clients_done} clients of a block answered")
    self.arrays = result.arrays
    return seconds


def main():
  """Runs the server and its clients until stdin ends."""
  spec, say = connect()
  os.environ["FLWR_TELEMETRY_ENABLED"] = os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
  cores = len(os.sched_getaffinity(0))
  server_app = ServerApp()
  server_app.main()(Server(spec, say))
  with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as logs:  # sockets want short paths
    run_simulation(
      server_app=server_app,
      client_app=client_app,
      num_supernodes=spec["clients"],
      backend_config={
        "init_args": {"num_cpus": cores, "_temp_dir": logs},
        "client_resources": {"num_cpus": 1, "num_gpus": torch.cuda.device_count() / cores},
      },
    )


if __name__ == "__main__":
  # Ray's processes find the ClientApp by the name of its module, not as a copy sent with every
  # message, so that what it caches stays with them.
  import flower_cifar

  flower_cifar.main()
