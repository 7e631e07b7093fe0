"""Every method in one table, under the small experiments and the properties of `kdjax.testing`."""

from kdjax.algorithms import async_edge, fedgkt, mhd, pairwise
from kdjax.configs import common
from kdjax.data.sources import ExampleSet, Source  # noqa: F401, for the tests
from kdjax.plugins import find_method
from kdjax.testing import Case, small
from kdjax.testing.small import (  # noqa: F401, for the tests
  CLASSES,
  CNN,
  IMAGE,
  MLP,
  WIDE,
  build,
  by_client,
  data,
  images,
  train,
)


def mhd_case(messages, **hyper):
  """A case of MHD; `messages` are a function of (sizes, the number of heads that speak)."""
  small_pool = dict(aux_heads=2, nu_emb=0.5, pool_size=3, refresh_every=2)
  small_pool |= dict(pool_start="first", speak_in="mixed")
  algo = common.algo(mhd.Hyper(**(small_pool | hyper)))
  return Case(method="mhd", algo=algo, along_graph=True, messages=lambda s: messages(s, 2))


def model(s):
  """A whole model on its way, and whose it is."""
  return {"collective_permute": {(s.k, s.L)}}


def heard(s, m):
  """Predictions of m heads and embeddings of a common public batch."""
  return {"train": {"all_gather": {(s.k, s.b, m, s.C), (s.k, s.b, s.F)}}}


def fetch(s):
  """The sources' weights."""
  return {"fetch": model(s)}


FRESH = dict(exchange="fresh", teachers=2, speak_in="training")
FEDMD = dict(public_epochs=0, private_epochs=1, private_batch=8, alignment=12)
FEDMD |= dict(digest_epochs=1, digest_batch=8, revisit_epochs=1)
GKT = fedgkt.Hyper(
  server=("mlp", dict(hidden=(6,), activation="tanh")),
  server_optim=common.sgd(lr=0.1, clip=1.0),
  cut="embedding",
  server_epochs=1,
  server_batch=16,
  order="shuffled",
  plateau=dict(factor=0.5, patience=1),
  arrivals=4,
)
PAIRWISE = pairwise.Hyper(
  layers=("heads/main",),
  alpha=0.3,
  beta=0.7,
  noise=0.01,
  transfer_optim=common.adam(lr=0.01),
  new_class_below=1,
)
ASYNC = async_edge.Hyper(
  ensemble=2,
  memory=2,
  temperature=2.0,
  core_epochs=1,
  edge_epochs=1,
  distil_epochs=1,
  arrivals=((1, 0), (2, 1)),
  noisy=(2,),
  noise=0.5,
  flag_above=0.1,
)


def server_as_large(c):
  """FedGKT's server takes its norm and dtype from the clients', and grows with them."""
  name, arguments = c.algo.server
  arguments = dict(arguments)
  if c.clients[0][1] == "mlp" and c.clients[0][2]["hidden"] == (32,):  # testing/programs.py
    arguments["hidden"] = (64, 64)
  c.algo.server = (name, arguments | c.model.to_dict())
  c.algo.arrivals = min(c.algo.arrivals, sum(n for n, *_ in c.clients))


def gkt(folds=True, **changes):
  """A case of FedGKT."""

  def messages(s):
    S = 16  # rows of a server's batch, over two devices for clients and four for a batch
    return {
      # A client's memory is the same on all devices of its `data` axis.
      "upload": {"all_gather": {(s.k, s.b, s.F), (s.k, s.b, s.C), (s.k, s.b)}},
      "server": {
        "reduce_scatter": {(1, S // 4, s.F), (1, S // 4, s.C), (1, S // 4)},
        "all_gather": {(1, S // 8, s.C), (1, S // 4, s.C)},
      },
    }

  algo = common.algo(GKT) | changes
  return Case(
    method="fedgkt",
    algo=algo,
    rounds=2,
    folds=folds,
    adapt=server_as_large,
    batches=("server_batch",),
    messages=messages,
  )


def transfer(**changes):
  """A case of pairwise transfer."""
  algo = common.algo(PAIRWISE) | changes
  return Case(method="pairwise", algo=algo, along_graph=True, messages=fetch)


def gossip(**hyper):
  """A case of gossip."""
  meet = lambda s: {"meet": model(s)}
  algo = dict(local_epochs=1, mu=1.0) | hyper
  return Case(method="gossip", algo=algo, along_graph=True, messages=meet)


METHODS = {
  "separate": Case(method="separate"),
  "fedavg": Case(method="fedavg", algo=dict(local_steps=3, momentum="keep")),
  "fedavg reset": Case(method="fedavg", algo=dict(local_steps=2, momentum="reset")),
  "mhd pool": mhd_case(lambda s, m: {"refresh": model(s)}),
  "mhd fresh": mhd_case(heard, **FRESH),
  "mhd two passes": mhd_case(heard, **FRESH | dict(speak_in="mixed")),
  "mhd top-k": mhd_case(
    lambda s, m: {"train": {"all_gather": {(s.k, s.b, m, 2), (s.k, s.b, s.F)}}},
    **FRESH | dict(top_k=2),
  ),
  "mhd published": mhd_case(heard, exchange="published", teachers=2),
  "fedmd": Case(
    method="fedmd",
    algo=FEDMD,
    rounds=2,
    batches=("private_batch", "digest_batch"),
    # Logits, rows and masks; then the mean of all clients, along `data`.
    messages=lambda s: {
      "consensus": {"all_gather": {(s.k, s.b, s.C), (s.k, s.b), (1, s.b, s.C), (1, s.b)}}
    },
  ),
  "kd": Case(
    method="kd",
    algo=dict(alpha=0.5, beta=0.5, local_epochs=1, distil_epochs=1),
    graph="cycle",  # one source a client compiles quickly
    along_graph=True,
    messages=fetch,
  ),
  "gossip average": gossip(variant="average", rho=0.1),
  "gossip admm": gossip(variant="admm", rho=0.5),
  "fedgkt": gkt(),
  "fedgkt async": gkt(folds=False, arrivals=2, present=0.8, order="client", server_epochs=2),
  "pairwise": transfer(),
  "pairwise algorithm1": transfer(variant="algorithm1", write="batch"),
  "pairwise as_coded": transfer(variant="as_coded"),
  "async edge": Case(
    method="async_edge",
    algo=common.algo(ASYNC),
    one_core=True,
    by_name=False,  # the first of a list is the core
    messages=lambda s: {
      "dispatch": model(s),
      "edge": {"all_gather": {(2 * s.k, s.b)}},  # labels to be permuted, and their masks
      "collect": {"collective_permute": {(s.k, s.L), (2 * s.k, s.L)}},
    },
  ),
}
ONE_ARCHITECTURE = tuple(  # methods that average or copy weights
  name
  for name, case in METHODS.items()
  if find_method(case.method).one_architecture or case.one_core
)
# Settings of a method that the long properties leave out; each has tests in the method's own file.
VARIANTS = (
  "mhd two passes",
  "mhd top-k",
  "fedavg reset",
  "gossip admm",
  "pairwise algorithm1",
  "pairwise as_coded",
)


def config(method="mhd pool", clients=((4, *MLP),), **changes):
  """A small config of a method by its name in `METHODS`; see `small.config`."""
  return small.config(METHODS[method], clients, **changes)
