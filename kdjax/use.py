"""Uses a trained client of a run folder: its predictions and its weights."""

import dataclasses
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import experiment
from kdjax.config import completed, flat
from kdjax.core import files
from kdjax.core.passes import eval_mode
from kdjax.data import dataset
from kdjax.data.arrays import as_examples
from kdjax.peers import Mail
from kdjax.plugins import look_in
from kdjax.training import fingerprint, run_folder
from kdjax.types import ClientState, ConfigError, ModelOut, PyTree

# A batch is warned of if its mean is off by FAR training deviations, or its spread by that factor.
FAR = 4.0


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
  """One trained client."""

  heads: tuple[str, ...]
  params: PyTree = dataclasses.field(repr=False)  # the weights, nested dicts of arrays
  # BatchNorm statistics by collection; {} if the model has none.
  model_state: PyTree = dataclasses.field(repr=False)
  shape: tuple[int, ...]  # of one example in the source's form
  dtype: np.dtype  # of its values
  values: dict[str, float]  # of the training examples: min, max, mean, std; {} if unknown
  # The jitted forward pass on examples in the source's form; it checks nothing.
  forward: Callable[[jax.Array], ModelOut] = dataclasses.field(repr=False)

  def predict(self, images: np.ndarray) -> dict[str, jax.Array]:
    """Probabilities {head: f32[N, C]} of examples [N, ...] in the source's form.

    As in `kdjax.arrays`, real numbers become float32 if the client was trained on features, and
    grey images may be [N, h, w].

    Raises:
      ConfigError: for examples of another shape or dtype than those of training, or no examples.
    """
    z = self._by_head(self._checked(images))
    return {head: jax.nn.softmax(each) for head, each in z.items()}

  def logits(self, images: np.ndarray) -> dict[str, jax.Array]:
    """Logits {head: f32[N, C]}; images and errors as in `predict`."""
    return self._by_head(self._checked(images))

  def embed(self, images: np.ndarray) -> jax.Array:
    """Embeddings f32[N, F], the input of the heads; images and errors as in `predict`."""
    return self.forward(self._checked(images)).embedding

  def export(self, path: str | Path) -> Path:
    """Writes the weights to PATH.npz or PATH.safetensors; returns the path.

    Keys are paths such as 'params/Dense_0/kernel' and 'batch_stats/norm1/mean'.

    Raises:
      ConfigError: for another ending, a folder that does not exist, or if safetensors is not
        installed.
    """
    path = Path(path)
    if not path.parent.is_dir():
      raise ConfigError("path", str(path), f"there is no folder {str(path.parent)!r}")
    weights = flat({"params": self.params, **self.model_state}, separator="/")
    arrays = {name: np.asarray(value) for name, value in weights.items()}
    files.replace(path, _encoded(path, arrays, {"heads": ",".join(self.heads)}))
    return path

  def _by_head(self, images):
    z = self.forward(images).logits
    return {head: z[:, h] for h, head in enumerate(self.heads)}

  def _checked(self, images):
    images = np.asarray(images)
    images = as_examples(images) if self.shape[2:] == (1,) else images  # grey, as in `arrays`
    if images.ndim != 1 + len(self.shape) or images.shape[1:] != self.shape:
      expected = ", ".join(map(str, ("N", *self.shape)))
      hint = f"this client was trained on examples of shape [{expected}]"
      raise ConfigError("images.shape", images.shape, hint)
    if not len(images):
      raise ConfigError("images.shape", images.shape, "at least one example")
    if self.dtype.kind == "f" and images.dtype.kind in "fiub":
      images = images.astype(self.dtype)
    if images.dtype != self.dtype:
      hint = f"this client was trained on {self.dtype}, {_range(self.values)}"
      raise ConfigError("images.dtype", str(images.dtype), hint)
    _warn_of_other_values(images, self.values)
    return images


def _range(values):
  return "{min:g} to {max:g}".format_map(values) if values else "as its source has them"


def _warn_of_other_values(images, values):
  """Warns of values unlike those of training: digits in 0..16 are u8 as those in 0..255 are."""
  if not values or not images.size:
    return
  mean, std = float(images.mean()), float(images.std())
  spread = max(values["std"], 1e-9)
  if abs(mean - values["mean"]) > FAR * spread or not spread / FAR <= std <= FAR * spread:
    trained = "{min:g} to {max:g}, mean {mean:.3g}, standard deviation {std:.3g}".format_map(values)
    given = f"{images.min():g} to {images.max():g}, mean {mean:.3g}, standard deviation {std:.3g}"
    warnings.warn(f"values of {given}: the training data's were {trained}", stacklevel=4)


def _encoded(path, arrays, metadata):
  """The bytes of a file of arrays, in the format of its ending."""
  if path.suffix == ".npz":
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()
  if path.suffix != ".safetensors":
    raise ConfigError("path", str(path), "must end in .npz or .safetensors")
  try:
    from safetensors.numpy import save
  except ModuleNotFoundError:
    raise ConfigError("path", str(path), "needs pip install safetensors, or use .npz") from None
  return save(arrays, metadata)


def load(workdir: str | Path, *, client: int, step: int | None = None) -> Trained:
  """Loads a client of a finished or interrupted run; the run's data are not needed.

  Args:
    workdir: the run's folder.
    client: the client's number, 0 .. R*K - 1, replica by replica.
    step: the checkpoint to use, a training batch; None: the newest.

  Raises:
    ConfigError: for a folder without that checkpoint as a whole, or a client that does not exist.
  """
  from kdjax.training import stored

  record = _record(workdir, step)
  planned = _planned(record)
  env = planned.env
  if not 0 <= client < env.clients:
    raise ConfigError("client", client, f"must lie in 0..{env.clients - 1}")
  if client not in env.local_ids:
    local = ", ".join(map(str, env.local_ids))
    raise ConfigError("client", client, f"trained elsewhere: the clients here are {local}")
  read = lambda step: _weights(workdir, planned, step, client)
  g, weights, server = stored.newest(workdir, read, aside=False, only=step)
  source = planned.data.source.train
  return Trained(
    heads=env.heads,
    params=weights.params,
    model_state=weights.model_state,
    shape=tuple(source.shape),
    dtype=np.dtype(record.get("values", {}).get("dtype", "uint8")),
    values={k: v for k, v in record.get("values", {}).items() if k != "dtype"},
    forward=_forward(planned, g, weights, server),
  )


def models(workdir: str | Path) -> int:
  """The number of models per seed of a run: one per client, unless the method's models travel."""
  return _planned(run_folder.read(workdir)).env.K


def _record(workdir, step) -> dict[str, Any]:
  """The config.json of a run, which must have the checkpoint of that step; None: any."""
  record = run_folder.read(workdir)
  steps = run_folder.steps(workdir)
  if not steps:
    raise ConfigError("workdir", str(workdir), "holds no checkpoint")
  if step not in (None, *steps):
    raise ConfigError("step", step, f"there are checkpoints of {', '.join(map(str, steps))}")
  return record


def _planned(record):
  """The run's experiment on one device, its data by shape alone."""
  for folder in fingerprint.folders(record):  # the caller may be anywhere
    look_in(folder)
  # Evaluators look at the data, which a trained client does without.
  config, here = completed(record["config"]) | {"evals": {}}, record.get("here", [])
  data = dataset.stand_in(config, record["examples"])
  whole = experiment.build(config, data=data, devices=jax.devices()[:1])
  if not 0 < len(here) < whole.env.clients:
    return whole
  mail = Mail("", tuple(here), **config["peers"])  # of a peer's folder, and never opened
  return experiment.build(config, data=data, devices=jax.devices()[:1], mail=mail)


def _weights(workdir, planned, step, client):
  """(the client's cohort, its ClientState without an optimiser, its replica's server or None)."""
  from kdjax.training import stored

  env = planned.env
  shapes = planned.shapes()
  g, cohort = next((g, c) for g, c in enumerate(env.cohorts) if client in c.ids)
  entry = lambda tree, i: jax.tree.map(lambda x: np.asarray(x[i]), tree)
  server = None
  if planned.algorithm.client_logits is None:
    models = tuple({"params": c.params, "model_state": c.model_state} for c in shapes.clients)
    saved = stored.read(workdir, step, "model", models)[g]
  else:
    state = stored.state(workdir, step, shapes)
    saved = {"params": state.clients[g].params, "model_state": state.clients[g].model_state}
    server = entry(state.server, client // env.K)
  return g, ClientState(**entry(saved, cohort.ids.index(client)), opt_state=()), server


def _forward(planned, g, weights, server):
  """The client's jitted forward pass; `Algorithm.client_logits`, if any, gives the logits."""
  env = planned.env
  client_logits = planned.algorithm.client_logits

  @jax.jit
  def forward(images):
    views = jax.vmap(planned.view)(jnp.asarray(images)).astype(env.dtype)
    out = eval_mode(env.cohorts[g].model, weights, views)
    if client_logits is None:
      return out
    return out._replace(logits=client_logits(g, weights, server, views))

  return forward
