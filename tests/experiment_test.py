"""Configs that cannot work are refused before any work, by key, value and what would be right."""

import inspect
import re
import sys
from pathlib import Path

import ensembles
import jax
import numpy as np
import pytest
from flax import linen as nn

from kdjax import config, experiment
from kdjax.configs import mhd_digits
from kdjax.types import ConfigError, ModelOut

GRAPH = dict(kind="complete", every=0, island=2, degree=2, edges=(), seed=0)


def digits(**changes):
  c = mhd_digits.get_config()
  c.replicas = 1
  for key, value in changes.items():
    target = c
    *path, last = key.split("__")
    for name in path:
      target = target[name]
    target[last] = value
  return c


BAD = [
  (dict(labels=11), "labels", "10"),
  (dict(labels=3), "labels", "even"),
  (dict(algo__pool_size=2, algo__teachers=3), "algo.pool_size", "at least algo.teachers = 3"),
  (dict(graph=GRAPH | dict(kind="edges", edges=((0, 5),))), "graph.edges", "0..4"),
  (dict(graph=GRAPH | dict(kind="islands", island=3)), "graph.island", "divide"),
  (dict(graph=GRAPH | dict(kind="ring")), "graph.kind", "cycle"),
  (dict(graph=GRAPH | dict(kind="cycle,complete")), "graph.every", "above 0"),
  (dict(public_share=1.5), "public_share", "1"),
  (dict(skew=-1.0), "skew", "0"),
  (dict(algorithm="mhdd"), "algorithm", "mhd"),
  (dict(algo__exchange="pull"), "algo.exchange", "fresh"),
  (dict(algo__top_k=3), "algo.top_k", "exchange='pool'"),
  (dict(algo__exchange="fresh", algo__top_k=11), "algo.top_k", "10"),
  (dict(algo__speak_in="whispers"), "algo.speak_in", "evaluation, training, mixed"),
  (dict(algo__pool_start="full"), "algo.pool_start", "empty, first"),
  (
    dict(algo__exchange="fresh", algo__speak_in="training", algo__public_statistics=True),
    "algo.public_statistics",
    "must be False",
  ),
  (dict(algo__target="best"), "algo.target", "confident"),
  (dict(algo__confidence="norm"), "algo.confidence", "margin"),
  (dict(algo__exchange="fresh", algo__top_k=9, algo__confidence="entropy"), "algo.top_k", "10"),
  (dict(algo__exchange="fresh", algo__top_k=1, algo__confidence="margin"), "algo.top_k", "2"),
  (
    dict(
      algo__exchange="fresh",
      algo__top_k=1,
      algo__confidence="margin",
      algo__target="random",
      algo__skip_confident=True,
    ),
    "algo.top_k",
    "2",
  ),
  (dict(algo__refresh_every=0), "algo.refresh_every", "at least 1"),
  (dict(algo__exchange="published", algo__refresh_every=0), "algo.refresh_every", "at least 1"),
  (dict(algo__exchange="published", algo__pool_size=0), "algo.pool_size", "at least 1"),
  (dict(algo__rho="abs"), "algo.rho", "pseudo_huber"),
  (dict(clients=((5, "mpl", {}),)), "clients", "mlp"),
  (dict(clients=((5, "mlp", dict(hidden=(8,), activation="tan")),)), "clients", "tanh"),
  (dict(clients=((5, "mlp", dict(width=8, activation="tanh")),)), "clients", "hidden"),
  (dict(clients=(("five", "mlp", {}),)), "clients", "how many"),
  (dict(clients=(5, "mlp", {})), "clients", "how many"),
  (dict(clients=((5, 6, {}),)), "clients", "how many"),
  (dict(clients=((5, "mlp", (8,)),)), "clients", "how many"),
  (dict(primary="explicit", primary_labels=((0,), 1, (2,), (3,), (4,))), "primary_labels", "0 to"),
  (dict(partition="table", counts=(40,) * 5), "counts", "10 counts"),
  (dict(overlay=dict(share=0.1, clients=("0",))), "overlay.clients", "0..4"),
  (dict(seed=-1), "seed", "negative"),
  (dict(seed=2**31), "seed", "below 2**31"),
  (dict(seed=2**31 - 1, replicas=2), "seed", "below 2**31"),
  (dict(graph=GRAPH | dict(kind="random_regular", seed=-1)), "graph.seed", "negative"),
  (dict(steps=0), "steps", "exactly one"),
  (dict(rounds=3), "steps", "exactly one"),
  (dict(optim__name="sdg"), "optim.name", "sgd"),
  (dict(optim__schedule="cosin"), "optim.schedule", "cosine"),
  (dict(optim__lr=-0.1), "optim.lr", "negative"),
  (dict(mesh__map="map"), "mesh.map", "scan"),
  (dict(mesh__steps_per_dispatch=-1), "mesh.steps_per_dispatch", "negative"),
  (dict(mesh__device_tflops=0.0), "mesh.device_tflops", "above 0"),
  (dict(augment=dict(kind="mixup")), "augment.kind", "crop_flip"),
  (dict(source="digit"), "source", "digits"),
  (dict(source="npz:/nowhere.npz"), "source", "/nowhere.npz"),
  (dict(source_info__image=(28, 28, 1)), "source_info.image", "8"),
  (dict(source_info__classes=11), "source_info.classes", "10"),
  (dict(public_batch=0), "public_batch", "at least 1"),
  (dict(evals=dict(acuracy=dict(every=1))), "evals", "accuracy"),
  (dict(source_info__image=()), "source_info.image", "height"),
  (dict(source_info=dict(image=8)), "source_info.image", "tuple"),
  (dict(source_info__image=(8, 8, 0.5)), "source_info.image", "height"),
  (
    dict(clients=((5, "mlp", dict(hidden=(8,), heads=2)),)),
    "clients",
    "heads is not a model argument",
  ),
  (dict(evals=dict(accuracy=3)), "evals.accuracy", "or 0"),
  (dict(evals=dict(accuracy=dict(every=-1, batch=8))), "evals.accuracy", "or 0"),
  (dict(algorithm="fedavg"), "algo", "local_steps"),
]


@pytest.mark.parametrize("changes, key, hint", BAD, ids=[str(c) for c, _, _ in BAD])
def test_what_cannot_work_is_refused(changes, key, hint):
  with pytest.raises(ConfigError) as error:
    experiment.build(digits(**changes), devices=jax.devices()[:1])
  assert error.value.key.startswith(key), error.value
  assert hint in str(error.value)


@pytest.mark.parametrize(
  "algo",
  [
    dict(exchange="fresh", refresh_every=0, pool_size=0),  # it has no pool
    dict(exchange="fresh", confidence="entropy", top_k=10),
    dict(exchange="fresh", confidence="margin", top_k=2),
    dict(exchange="fresh", confidence="entropy", top_k=2, target="random"),  # asks nobody how sure
  ],
)
def test_what_can_work_is_not_refused(algo):
  changes = {f"algo__{key}": value for key, value in algo.items()}
  experiment.build(digits(**changes), devices=jax.devices()[:1])


@pytest.mark.parametrize("instead", [dict(primary="random"), dict(partition="equal")])
def test_what_is_said_in_place_of_labels_that_do_not_divide_works(instead):
  with pytest.raises(ConfigError, match="; or primary='random', or partition='equal'"):
    experiment.build(digits(labels=3), devices=jax.devices()[:1])
  experiment.build(digits(labels=3, **instead), devices=jax.devices()[:1])


class Own(nn.Module):
  """A user's network, whole."""

  classes: int
  heads: int

  @nn.compact
  def __call__(self, images, train, mask=None):
    x = nn.Dense(5)(images.reshape(len(images), -1))
    return self.out(x, nn.DenseGeneral((self.heads, self.classes))(x))

  def out(self, x, logits):
    return ModelOut(x, logits, {})


class PlainLogits(Own):
  def out(self, x, logits):
    return logits[:, 0]


class OneHead(Own):
  def out(self, x, logits):
    return ModelOut(x, logits[:, 0], {})


class FirstHeadTwice(Own):
  def out(self, x, logits):
    return ModelOut(x, logits[:, :2], {})


class WideEmbedding(Own):
  def out(self, x, logits):
    return ModelOut(x[:, None], logits, {})


class ADict(Own):
  def out(self, x, logits):
    return {"logits": logits}


class NoMask(Own):
  @nn.compact
  def __call__(self, images, train):
    raise AssertionError("never called")


class NoTrain(Own):
  @nn.compact
  def __call__(self, images, mask=None):
    raise AssertionError("never called")


class NeedsMask(Own):
  @nn.compact
  def __call__(self, images, train, mask):
    raise AssertionError("never called")


RETURNS = r"ModelOut\(embedding \[N, F\], logits \[N, H, C\].*H = 4 heads and C = 10 .* returns "
TAKES = r"__call__\(self, images, train, mask=None\): "


@pytest.mark.parametrize(
  "net, match",
  [
    (PlainLogits, RETURNS + r"one array \[2, 10\]"),
    (OneHead, RETURNS + r"embedding \[2, 5\] and logits \[2, 10\]"),
    (FirstHeadTwice, RETURNS + r"embedding \[2, 5\] and logits \[2, 2, 10\]"),
    (WideEmbedding, RETURNS + r"embedding \[2, 1, 5\] and logits \[2, 4, 10\]"),
    (ADict, RETURNS + "dict"),
    (NoMask, TAKES + ".*'mask'"),
    (NoTrain, TAKES + ".*'train'"),
    (NeedsMask, TAKES + ".*'mask'"),
  ],
)
def test_a_network_of_ones_own_that_breaks_the_contract_is_refused_by_name(net, match, monkeypatch):
  # Outside the tests nothing checks annotations.
  monkeypatch.setattr(experiment, "eval_mode", inspect.unwrap(experiment.eval_mode))
  name = f"{__name__}:{net.__name__}"
  with pytest.raises(ConfigError, match=f"^clients = '{name}': .*{match}"):
    experiment.build(digits(clients=((5, name, {}),), model={}), devices=jax.devices()[:1])


@pytest.mark.parametrize("module", [__name__, "__main__"])
def test_a_network_of_ones_own_that_keeps_the_contract_is_taken(module, monkeypatch):
  monkeypatch.setattr(sys.modules["__main__"], "Own", Own, raising=False)  # as in a notebook
  clients = ((5, f"{module}:Own", {}),)
  e = experiment.build(digits(clients=clients, model={}), devices=jax.devices()[:1])
  assert [c.width for c in e.env.cohorts] == [5]


def test_a_batch_that_the_devices_do_not_divide_is_refused():
  with pytest.raises(ConfigError, match="batch = 30.*multiple of 4"):
    experiment.build(digits(batch=30), devices=jax.devices()[:4])


def test_fedavg_of_two_architectures_is_refused():
  two = ((2, *ensembles.MLP), (2, *ensembles.WIDE))
  with pytest.raises(ConfigError, match="must be alike"):
    ensembles.build(ensembles.config("fedavg", two, dtype="float32"))


def test_embedding_distillation_between_widths_asks_for_a_projection():
  two = (
    (2, "mlp", dict(hidden=(8,), activation="tanh")),
    (2, "mlp", dict(hidden=(9,), activation="tanh")),
  )
  with pytest.raises(ConfigError, match=r"\(8, 9\) differ: set model.project"):
    ensembles.build(ensembles.config("mhd pool", two, dtype="float32"))
  c = ensembles.config("mhd pool", two, dtype="float32")
  c.model.project = 8
  e = ensembles.build(c)
  assert [c.width for c in e.env.cohorts] == [8, 8]
  ensembles.build(ensembles.config("mhd pool", two, dtype="float32", algo_nu_emb=0.0))


def test_an_infinite_skew_survives_the_run_folder():
  c = digits(skew=float("inf"), primary="even")
  plain = config.plain(c)
  assert plain["skew"] == "inf" and config.plain(plain) == plain
  e = experiment.build(c, devices=jax.devices()[:1])
  for k, primary in enumerate(e.data.shards.primary):
    assert set(np.flatnonzero(e.data.shards.label_counts[k])) == set(primary)


def test_a_limit_takes_a_fixed_part_of_the_training_set():
  sets = [
    experiment.build(digits(limit=700, seed=s), devices=jax.devices()[:1]).data.source
    for s in (0, 1)
  ]
  assert [len(s.train.labels) for s in sets] == [700, 700] and len(sets[0].test.labels) == 360
  np.testing.assert_array_equal(sets[0].train.array, sets[1].train.array)


def test_the_readmes_own_model_and_source_work(tmp_path, monkeypatch):
  readme = (Path(__file__).parent.parent / "README.md").read_text()
  blocks = re.findall(r"```python\n# (my_\w+\.py)(.*?)```", readme, re.DOTALL)
  assert [name for name, _ in blocks] == ["my_net.py", "my_source.py"]
  for name, code in blocks:
    assert code.count("\n") < 20
    (tmp_path / name).write_text("#" + code)
  monkeypatch.syspath_prepend(tmp_path)
  c = digits(
    source="my_source:two_shades",
    source_info=dict(train=500, test=100, image=(8, 8, 1), classes=2, resize=False),
    clients=(
      (1, "my_net:Net", dict(width=64)),
      (1, "mlp", dict(hidden=(8, 64), activation="tanh")),
    ),
    labels=1,
    steps=30,
  )
  e = experiment.build(c, devices=jax.devices()[:1])
  state, _ = ensembles.train(e)
  (result,) = e.evaluators["accuracy"][1](state)
  assert np.mean(result["private_accuracy"]["main"]) > 0.95
  for name in ("my_net", "my_source"):
    del sys.modules[name]
