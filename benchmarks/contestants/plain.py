"""A contestant without kdjax's own code: Flax's layers, one jitted step, K states stepped in turn.

What one writes who has no kdjax. spec: {'model': 'mlp', 'cnn', 'resnet20' or 'resnet18',
'clients', 'batch', 'steps'}.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from benchmarks import settings
from benchmarks.contestants import protocol
from benchmarks.contestants.trainer import configure, facts

STAGES = {"resnet20": ((16, 32, 64), 3), "resnet18": ((64, 128, 256, 512), 2)}  # widths, blocks


class Block(nn.Module):
  """Two 3x3 convolutions and a shortcut."""

  width: int
  stride: int
  project: bool

  @nn.compact
  def __call__(self, x):
    """[B, h, w, c] -> [B, h / stride, w / stride, width]."""
    y = nn.relu(conv_norm(self.width, 3, self.stride)(x))
    y = conv_norm(self.width, 3, 1)(y)
    if x.shape != y.shape:
      new = self.width - x.shape[-1]
      if self.project:
        x = conv_norm(self.width, 1, self.stride)(x)
      else:
        x = jnp.pad(x[:, :: self.stride, :: self.stride], ((0, 0),) * 3 + ((0, new),))
    return nn.relu(x + y)


class Network(nn.Module):
  """A stem, residual stages or plain convolutions, the mean over pixels, a linear head."""

  kind: str

  @nn.compact
  def __call__(self, x):
    """f32[B, h, w, c] -> logits f32[B, C]."""
    if self.kind == "mlp":
      return nn.Dense(10)(nn.relu(nn.Dense(128)(x.reshape(len(x), -1))))
    if self.kind == "cnn":
      for width, stride in ((16, 1), (32, 2)):
        x = nn.relu(conv_norm(width, 3, stride)(x))
    else:
      widths, blocks = STAGES[self.kind]
      x = nn.relu(conv_norm(widths[0], 3, 1)(x))
      for i, width in enumerate(widths):
        for j in range(blocks):
          x = Block(width, 2 if i and not j else 1, self.kind == "resnet18")(x)
    return nn.Dense(10)(x.mean((1, 2)))


def conv_norm(width, kernel, stride):
  """A convolution without bias and BatchNorm in training mode."""
  pad = (kernel // 2,) * 2
  return nn.Sequential(
    [
      nn.Conv(width, (kernel, kernel), stride, (pad, pad), use_bias=False),
      nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5),
    ]
  )


def prepare(spec):
  """See `protocol.serve`."""
  configure(spec)
  *_, image, classes = settings.MODELS[spec["model"]]
  K, B = spec["clients"], spec["batch"]
  model = Network(spec["model"])
  kernels = functools.partial(jax.tree.map, lambda x: x.ndim > 1)
  tx = optax.chain(optax.add_decayed_weights(1e-4, kernels), optax.sgd(0.01, momentum=0.9))

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state, images, labels, index):
    params, statistics, momentum = state
    x, y = images[index] / 127.5 - 1, labels[index]

    def loss(params):
      variables = {"params": params, "batch_stats": statistics}
      logits, changed = model.apply(variables, x, mutable="batch_stats")
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
      return losses.mean(), changed.get("batch_stats", {})

    gradients, statistics = jax.grad(loss, has_aux=True)(params)
    updates, momentum = tx.update(gradients, momentum, params)
    return optax.apply_updates(params, updates), statistics, momentum

  def fresh(k):
    variables = model.init(jax.random.key(k), jnp.zeros((1, *image)))
    params = variables["params"]
    return params, variables.get("batch_stats", {}), tx.init(params)

  rng, n = np.random.default_rng(0), 4 * B
  states = [fresh(k) for k in range(K)]
  data = [
    jax.device_put(
      (rng.integers(256, size=(n, *image), dtype=np.uint8), rng.integers(classes, size=n))
    )
    for _ in range(K)
  ]
  began = time.perf_counter()
  compiled = step.lower(states[0], *data[0], np.arange(B)).compile()
  seconds = time.perf_counter() - began
  scratch = compiled.memory_analysis().temp_size_in_bytes

  def block():
    nonlocal states
    for _ in range(spec["steps"]):
      pick = [rng.integers(n, size=B) for _ in range(K)]
      states = [compiled(s, *d, i) for s, d, i in zip(states, data, pick, strict=True)]
    jax.block_until_ready(states)

  return block, {"compile_seconds": seconds, "scratch_bytes": scratch} | facts()


if __name__ == "__main__":
  protocol.serve(prepare)
