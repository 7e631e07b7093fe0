"""pfl: FedAvg in the setting of its CIFAR-10 benchmark, with its `simple_cnn`.

With Python 3.11, torch 2.13.0 (CPU) and pfl 0.6.0; torch first, or pip takes its largest build:

  pip install torch==2.13.0
  pip install 'pfl[pytorch]'

As in its benchmark (benchmarks/image_classification, configs/baseline.yaml): 50 users a round with
50 images each, 1 local epoch with batch 10, SGD with learning rate 0.1 at the users and 1.0 at the
server, `SimulatedBackend` with users weighed alike, images f32[32, 32, 3] in memory. Unlike it: the
data are synthetic, the population is one cohort, so that every round trains every user once, and
nothing is evaluated but the first round of the warm-up, where pfl knows no other way.

pfl trains one user after another in each of its processes and recommends several of them
(docs/source/guides/simulation_distributed.rst). On a CPU one process a core, each with one thread,
is faster here than one process with all threads, so that is what runs; on a GPU one process.

pfl owns the training loop. A callback after every round ends a block when it has its rounds, says
how long it took and holds the loop until the next block is wanted; the clock runs from the moment
it lets the loop go on to the end of the block's last round.

spec: {"clients": 50, "local_steps": 5, "batch": 10, "steps": rounds in a block, "seed": 0}
"""

import json
import os
import platform
import resource
import socket
import subprocess
import sys
import time
from importlib.metadata import version

import numpy as np
import torch
from channel import connect, peak_rss_bytes
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByUser
from pfl.algorithm import FederatedAveraging, NNAlgorithmParams
from pfl.callback.base import TrainingProcessCallback
from pfl.data import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import nn
from torch_models import simple_cnn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RANK = int(os.environ.get("PFL_WORKER_RANK", "0"))
WORKERS = len(os.environ.get("PFL_WORKER_ADDRESSES", "one").split(","))


class Network(nn.Module):
  """`simple_cnn` as pfl wants a model: it knows its own loss."""

  def __init__(self):
    super().__init__()
    self.layers = simple_cnn()

  def loss(self, images, labels, eval=False):
    """Mean cross-entropy of images [b, 32, 32, 3], as pfl calls it in a training step."""
    self.train(not eval)
    return nn.functional.cross_entropy(self.layers(images.permute(0, 3, 1, 2)), labels)

  @torch.no_grad()
  def metrics(self, images, labels, eval=True):
    """What pfl evaluates."""
    total = self.loss(images, labels, eval).item() * len(images)
    return {"loss": Weighted(total, len(images))}


class Blocks(TrainingProcessCallback):
  """Asks `more(seconds)` after every block of rounds whether another block is wanted."""

  def __init__(self, rounds, more):
    self.rounds, self.more = rounds, more

  def on_train_begin(self, *, model):
    """Starts the clock."""
    self.start = time.perf_counter()
    return Metrics()

  def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
    """(stop here, no metrics)."""
    if (central_iteration + 1) % self.rounds:
      return False, Metrics()
    if DEVICE == "cuda":
      torch.cuda.synchronize()
    seconds = time.perf_counter() - self.start
    go = torch.tensor(RANK == 0 and self.more(seconds))
    if WORKERS > 1:
      torch.distributed.broadcast(go, 0)  # the other workers wait here for the first
    self.start = time.perf_counter()
    return not go, Metrics()


def conversation(spec, say):
  """Takes the seconds of one block after the other; yields whether another one is wanted."""
  first = yield
  second = yield True
  say(
    ready=True,
    compile_seconds=max(0.0, first - second),
    versions={
      "python": platform.python_version(),
      **{p: version(p) for p in ("pfl", "torch", "numpy")},
    },
    device=torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
    processes=WORKERS,
    parameters=sum(p.numel() for p in Network().parameters()),
    client_steps=spec["clients"] * spec["local_steps"] * spec["steps"],
  )
  for _ in sys.stdin:
    say(seconds=(yield True))
  yield False


def synthetic(spec):
  """pfl's federated dataset in memory, each user with `local_steps` batches."""
  n = spec["local_steps"] * spec["batch"]

  def user(i):
    rng = np.random.default_rng((spec["seed"], i))
    images = torch.from_numpy(rng.standard_normal((n, 32, 32, 3), np.float32))
    return images.to(DEVICE), torch.from_numpy(rng.integers(10, size=n)).to(DEVICE)

  users = {i: user(i) for i in range(spec["clients"])}
  return FederatedDataset.from_slices(users, get_user_sampler("minimize_reuse", list(users)))


def train(spec, more):
  """Runs pfl's own loop until `more` declines."""
  torch.manual_seed(spec["seed"])
  np.random.seed(spec["seed"])
  network, data = Network(), synthetic(spec)
  network.to(DEVICE)
  model = PyTorchModel(
    model=network,
    local_optimizer_create=torch.optim.SGD,
    central_optimizer=torch.optim.SGD(network.parameters(), 1.0),
  )
  FederatedAveraging().run(
    algorithm_params=NNAlgorithmParams(
      central_num_iterations=sys.maxsize,
      evaluation_frequency=sys.maxsize,
      train_cohort_size=spec["clients"],
      val_cohort_size=0,
    ),
    backend=SimulatedBackend(data, data, postprocessors=[WeightByUser()]),
    model=model,
    model_train_params=NNTrainHyperParams(
      local_learning_rate=0.1, local_num_epochs=1, local_batch_size=spec["batch"]
    ),
    model_eval_params=NNEvalHyperParams(local_batch_size=spec["batch"]),
    callbacks=[Blocks(spec["steps"], more)],
    send_metrics_to_platform=False,
  )


def launch(workers):
  """Starts pfl's workers 1, 2, ... and becomes worker 0: pfl reads its rank when imported."""
  with socket.socket() as s:
    s.bind(("localhost", 0))
    port = s.getsockname()[1]  # free just now; the workers meet at the first address only
  addresses = ",".join(f"localhost:{port + i}" for i in range(workers))
  command = [sys.executable, *sys.argv]
  common = {**os.environ, "PFL_WORKER_ADDRESSES": addresses, "OMP_NUM_THREADS": "1"}
  for rank in range(1, workers):
    env = {**common, "PFL_WORKER_RANK": str(rank)}
    subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=sys.stderr)
  os.execve(command[0], command, {**common, "PFL_WORKER_RANK": "0"})


def main():
  """Warm up, say ready, then one block for every line on stdin."""
  spec = json.loads(sys.argv[1])
  wanted = min(len(os.sched_getaffinity(0)), spec["clients"]) if DEVICE == "cpu" else 1
  if wanted > WORKERS:
    launch(wanted)
  _, say = connect()  # not before: `launch` hands the output on
  more = conversation(spec, say)
  next(more)
  train(spec, more.send)
  if RANK == 0:
    for _ in range(WORKERS - 1):
      os.wait()
    largest = peak_rss_bytes(resource.RUSAGE_CHILDREN)  # workers do equal work
    say(peak_rss_bytes=peak_rss_bytes() + (WORKERS - 1) * largest)


if __name__ == "__main__":
  main()
