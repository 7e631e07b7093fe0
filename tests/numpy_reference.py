"""The mathematics of distillation in plain NumPy, for one client: networks, losses, gradients, SGD.

Written from the papers' equations. Parameters are flat dicts {"Dense_0/kernel": array, ...}; the
gradient of a loss is taken by complex steps, so no derivative is written anywhere.
"""

import numpy as np

HEADS = ("main", "aux1", "aux2", "aux3")
STEP = 1e-30  # of the complex step: the derivative is exact to rounding


def flat(tree, prefix=""):
  """A nested dict of arrays as {path: array}."""
  out = {}
  for name, value in tree.items():
    path = prefix + name
    out |= flat(value, path + "/") if isinstance(value, dict) else {path: np.array(value)}
  return out


def forward(params, images):
  """A tanh MLP with linear heads: (embedding [N, F], logits [N, H, C])."""
  x, layer = images.reshape(len(images), -1), 0
  while f"Dense_{layer}/kernel" in params:
    x = np.tanh(x @ params[f"Dense_{layer}/kernel"] + params[f"Dense_{layer}/bias"])
    layer += 1
  heads = [f"heads/{name}" for name in HEADS if f"heads/{name}/kernel" in params]
  return x, np.stack([x @ params[h + "/kernel"] + params[h + "/bias"] for h in heads], axis=1)


def softmax(z):
  e = np.exp(z - z.real.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def log_softmax(z):
  return np.log(softmax(z))


def cross_entropy(params, images, labels):
  """Of the main head, the first term of Eq. 1."""
  _, logits = forward(params, images)
  return -np.mean(log_softmax(logits[:, 0])[np.arange(len(labels)), labels])


def distillation(params, images, teachers, nu_emb, nu_aux):
  """The distillation terms of Eq. 1 for a client with at least one teacher.

  Args:
    params: of the student.
    images: the public batch.
    teachers: a list of the teachers' (embedding, logits) on it.
    nu_emb, nu_aux: weights of Eq. 2 and of Eqs. 3 to 5.
  """

  def unit(xi):
    return xi / np.sqrt(np.sum(xi * xi, -1, keepdims=True) + 1e-6**2)

  xi, logits = forward(params, images)
  loss = 0.0
  for theirs, _ in teachers:  # Eq. 2 with rho(z) = z^2
    loss += nu_emb * np.mean(np.sum((unit(xi) - unit(theirs)) ** 2, -1))
  for k in range(1, logits.shape[1]):  # Eq. 5: head k learns from heads k - 1
    said = [theirs[:, k - 1] for _, theirs in teachers]
    said.append(logits[:, k - 1].real)  # self comes last; `.real` stops the gradient
    p = np.stack([softmax(z) for z in said])  # [J, U, C]
    best = p.max(-1).argmax(0)  # Eq. 4: the most confident candidate of every example
    target = p[best, np.arange(len(images))]
    loss -= nu_aux * np.mean(np.sum(target * log_softmax(logits[:, k]), -1))
  return loss


def absolute_error(params, images, target):
  """FedMD's digest: the mean over examples and classes of |target - logits|."""
  _, logits = forward(params, images)
  z = logits[:, 0] - target
  return np.mean(z * np.sign(z.real))


def gradient(loss, params):
  """d loss(params) / d params, `Im loss(params + i h) / h` for each number in turn."""
  point, grads = {name: x.astype(complex) for name, x in params.items()}, {}
  for name, x in point.items():
    grads[name] = np.empty(x.shape)
    for place in np.ndindex(x.shape):
      x[place] += 1j * STEP
      grads[name][place] = loss(point).imag / STEP
      x[place] = x[place].real
  return grads


def norm(grads):
  """The norm of all gradients of a client together."""
  return np.sqrt(sum((g**2).sum() for g in grads.values()))


def sgd(params, momentum, grads, lr, *, clip, weight_decay, beta):
  """(params, momentum) after a step: clipped, decayed (kernels alone), then momentum."""
  shrink = min(1.0, clip / norm(grads))
  kernel = {name: float(name.endswith("kernel")) for name in params}
  momentum = {
    name: shrink * grads[name] + weight_decay * kernel[name] * params[name] + beta * m
    for name, m in momentum.items()
  }
  return {name: x - lr * momentum[name] for name, x in params.items()}, momentum
