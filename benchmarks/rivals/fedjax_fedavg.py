"""FedJAX: FedAvg on its EMNIST convolutional model with 62 classes.

FedJAX on the package index (0.0.17) calls functions that today's JAX no longer has; its source
repository's head of 2025-07-23 runs, with Python 3.11, jax 0.10.2 and dm-haiku 0.0.17:

  pip install jax==0.10.2 \
    git+https://github.com/google/fedjax@c57ee1970fcd74b560c3d7e5716fae32287daa7b

As in its own example (examples/emnist_fed_avg.py): the library's model with its two dropouts, SGD
with learning rate 10^-1.5 at the clients, a uniform client sampler, the `jit` backend of
`for_each_client`; on several devices its `pmap` backend. Unlike it: the data are synthetic and in
memory, each client holds `local_steps` batches and passes once over them, all clients take part in
every round, nothing is evaluated, and the server applies the mean as it is (SGD with learning rate
1, cheaper than the example's Adam).

spec: {"clients": 10, "local_steps": 5, "batch": 10, "steps": rounds in a block, "seed": 0,
  "devices": host devices to make of a CPU}
"""

import platform
import sys
import time
from importlib.metadata import version

import fedjax
import jax
import numpy as np
from channel import connect, peak_rss_bytes


def synthetic(spec):
  """Every client's examples: {client: {'x': f32[n, 28, 28, 1], 'y': i32[n]}}."""
  n = spec["local_steps"] * spec["batch"]

  def client(i):
    rng = np.random.default_rng((spec["seed"], i))
    x = rng.random((n, 28, 28, 1), np.float32)
    return {"x": x, "y": rng.integers(62, size=n, dtype=np.int32)}

  return {i: client(i) for i in range(spec["clients"])}


def federation(spec):
  """(a function that trains one block of rounds and waits for it, number of parameters)."""
  model = fedjax.models.emnist.create_conv_model(only_digits=False)
  algorithm = fedjax.algorithms.fed_avg.federated_averaging(
    fedjax.model_grad(model),
    client_optimizer=fedjax.optimizers.sgd(learning_rate=10**-1.5),
    server_optimizer=fedjax.optimizers.sgd(learning_rate=1.0),
    client_batch_hparams=fedjax.ShuffleRepeatBatchHParams(batch_size=spec["batch"]),
  )
  sampler = fedjax.client_samplers.UniformGetClientSampler(
    fedjax.InMemoryFederatedData(synthetic(spec)), spec["clients"], spec["seed"]
  )
  state = algorithm.init(model.init(jax.random.PRNGKey(spec["seed"])))

  def block():
    nonlocal state
    for _ in range(spec["steps"]):
      state, _ = algorithm.apply(state, sampler.sample())
    jax.block_until_ready(state)

  return block, sum(x.size for x in jax.tree.leaves(state.params))


def seconds(block):
  """How long one block takes."""
  start = time.perf_counter()
  block()
  return time.perf_counter() - start


def main():
  """Warm up, say ready, then one block for every line on stdin."""
  spec, say = connect()
  several = spec["devices"] > 1
  if several:
    jax.config.update("jax_num_cpu_devices", spec["devices"])
  fedjax.set_for_each_client_backend("pmap" if several else "jit")
  block, parameters = federation(spec)
  first, second = seconds(block), seconds(block)
  packages = ("fedjax", "jax", "jaxlib", "dm-haiku")
  say(
    ready=True,
    compile_seconds=max(0.0, first - second),
    versions={"python": platform.python_version(), **{p: version(p) for p in packages}},
    device=jax.devices()[0].device_kind,
    parameters=parameters,
    client_steps=spec["clients"] * spec["local_steps"] * spec["steps"],
  )
  for _ in sys.stdin:
    say(seconds=seconds(block))
  say(peak_rss_bytes=peak_rss_bytes())


if __name__ == "__main__":
  main()
