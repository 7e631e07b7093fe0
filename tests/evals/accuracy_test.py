"""The evaluator against plain loops over clients, examples and classes."""

import chex
import ensembles
import jax
import numpy as np
import pytest

K, R, HEADS = 4, 2, ("main", "aux1", "aux2")
CLIENTS = ((1, *ensembles.MLP), (3, *ensembles.WIDE))
CHAIN = dict(kind="chain", every=0, island=2, degree=2, edges=(), seed=0)


def noise():
  """Data whose 37 test images are noise: untrained clients differ in what they get right."""
  source, shards = ensembles.data(K, R=R)
  pixels = np.random.default_rng(0).integers(256, size=(37, *ensembles.IMAGE), dtype=np.uint8)
  label = source.test.labels
  test = ensembles.ExampleSet(label, label, ensembles.IMAGE, pixels, None)
  return source._replace(test=test), shards


@pytest.fixture(scope="module", params=[(), (1,)])
def case(request):
  """(experiment on two by two devices, its results, logits f64[R*K, N, H, C] client by client).

  All clients are honest, or client 1 of each replica is not.
  """
  with jax.enable_x64(True):
    c = ensembles.config("mhd fresh", CLIENTS, graph=CHAIN, algo_teachers=1, replicas=R)
    if request.param:
      c.hostile = dict(kind="least", clients=request.param, scale=20.0)
    e = ensembles.build(c, data_=noise(), mesh=4)
    state = e.init()
    clients = [params for params, _ in ensembles.by_client(e, state)]
    return e, e.evaluators["accuracy"][1](state), np.stack([logits(e, p) for p in clients])


def logits(e, params):
  """One client's logits f64[N, H, C] for the test images, by NumPy."""
  x = e.data.source.test.array.reshape(37, -1) / 255 * 2 - 1
  layers = [params[name] for name in sorted(params) if name.startswith("Dense")]
  activation = np.tanh if len(layers) == 1 else lambda z: np.maximum(z, 0)  # MLP, WIDE
  for layer in layers:
    x = activation(x @ layer["kernel"] + layer["bias"])
  heads = [params["heads"][h] for h in HEADS]
  return np.stack([x @ head["kernel"] + head["bias"] for head in heads], 1)


def class_accuracy(said, label):
  """Accuracy within every class; said and label i64[N]."""
  per_class = []
  for c in range(ensembles.CLASSES):
    hits = [s == c for s, true in zip(said, label, strict=True) if true == c]
    per_class.append(sum(hits) / len(hits))
  return per_class


def honest(e):
  return [k for k in range(K) if k not in e.env.liars]


def close(actual, expected):
  chex.assert_trees_all_close(actual, expected, rtol=1e-9, atol=0)


def test_the_batches_are_split_and_the_last_one_is_partial(case):
  e, results, said = case
  assert dict(e.env.mesh.shape) == {"client": 2, "data": 2}
  assert len(e.data.source.test.labels) == 37 and e.config["evals"]["accuracy"]["batch"] == 16
  assert len(results) == R and said.shape == (R * K, 37, 3, ensembles.CLASSES)


@pytest.mark.parametrize("h, head", list(enumerate(HEADS)))
@pytest.mark.parametrize("r", range(R))
def test_accuracies_are_those_of_clients_run_one_by_one(case, r, h, head):
  e, results, said = case
  label, result = e.data.source.test.labels, results[r]
  own, counts = said[r * K : (r + 1) * K, :, h], e.data.shards.label_counts[r * K : (r + 1) * K]
  accuracy = [class_accuracy(x.argmax(-1), label) for x in own]
  assert len(set(map(tuple, accuracy))) == K  # who is who matters
  close(result["shared_accuracy"][head], [sum(a) / len(a) for a in accuracy])
  owner = [
    [sum(n * a for n, a in zip(row, mine, strict=True)) / sum(row) for row in counts.tolist()]
    for mine in accuracy
  ]
  close(result["accuracy_by_owner"][head], owner)
  close(result["private_accuracy"][head], [owner[i][i] for i in range(K)])
  pairs = {}  # on a chain, client i is j - i hops from client j; nobody learns from those below
  for i in honest(e):
    for j in range(K):
      pairs.setdefault(str(j - i) if j >= i else "unreachable", []).append(owner[i][j])
  close(result["accuracy_by_distance"][head], {d: sum(v) / len(v) for d, v in pairs.items()})


@pytest.mark.parametrize("h, head", list(enumerate(HEADS)))
@pytest.mark.parametrize("r", range(R))
def test_the_ensemble_says_the_mean_of_its_honest_clients_probabilities(case, r, h, head):
  e, results, said = case
  p = np.exp(said[r * K : (r + 1) * K, :, h])
  p /= p.sum(-1, keepdims=True)
  accuracy = class_accuracy(p[honest(e)].mean(0).argmax(-1), e.data.source.test.labels)
  close(results[r]["ensemble_accuracy"][head], sum(accuracy) / len(accuracy))


def test_a_client_that_is_not_finite_does_not_silence_the_ensemble(case):
  e, results, said = case
  with jax.enable_x64(True):
    state = e.init()
    *first, last = state.clients  # clients 1 to 3 of the first replica, then those of the second
    broken = last._replace(params=jax.tree.map(lambda x: x.at[0].set(np.nan), last.params))
    found = e.evaluators["accuracy"][1](state._replace(clients=(*first, broken)))
  p = np.exp(said[[0, 2, 3], :, 0])
  p /= p.sum(-1, keepdims=True)
  accuracy = class_accuracy(p.mean(0).argmax(-1), e.data.source.test.labels)
  close(found[0]["ensemble_accuracy"]["main"], sum(accuracy) / len(accuracy))
  close(found[1]["ensemble_accuracy"], results[1]["ensemble_accuracy"])
