"""All top-level keys of a config, each with a comment. This file is not an experiment itself."""

import dataclasses
import types
import typing

from ml_collections import ConfigDict, config_dict


def base():
  """A config with neutral values, which an experiment completes."""
  c = ConfigDict()
  c.seed = 0
  c.replicas = 1  # ensembles with seeds seed, seed + 1, .. side by side in one run
  c.clients = ()  # entries (number of clients, model, model arguments)
  c.model = dict(norm="none", dtype="float32", project=0)  # arguments common to all models
  c.steps = 0  # training batches; exactly one of steps and rounds is above 0
  c.rounds = 0  # turns of the method's cycle
  # Private examples per client and step. A client that holds fewer sees some of them more than once
  # in a batch, in a pass over its data (an epoch) each once.
  c.batch = 32
  c.public_batch = 32  # public examples per client and step

  # Data
  # digits, tfds:NAME, idx:DIR, cifar:DIR, folder:DIR, npz:FILE, csv:FILE, hf:NAME, records:DIR, or
  # your own package.module:function.
  c.source = ""
  info = dict(train=0, test=0, image=(0, 0, 0), classes=0)  # zeros: taken from the source itself
  info |= dict(resize=False, grey=False, decoder="pillow")  # for encoded images
  c.source_info = dict(info)
  c.source_resident_bytes = 8 * 2**30  # larger sets are read while training
  c.limit = 0  # > 0: use only this many training images, drawn by a fixed seed
  # n > 0: hold out n training images as the test set. (n, m): test on m other images instead; the n
  # are used by nobody.
  c.holdout = anything(0)
  c.public_source = ""  # '': the public set is a share of `source`
  c.public_source_info = dict(info)
  c.public_share = 0.1  # gamma_pub; public examples are withheld from the clients
  c.public_reuse = False  # whether private examples are public too, without their labels (MHD+)
  c.public_limit = 0  # > 0: use only this many public examples; the partition does not change
  c.public_labels = False  # whether a method may use the labels of public examples
  c.partition = "skew"  # skew, dirichlet, equal, table, owner
  c.skew = 0.0  # s, for partition='skew'; float('inf') is allowed
  c.primary = "random"  # assignment of primary labels: even, random, explicit
  c.primary_labels = ()  # for primary='explicit': labels of `source`, a tuple per client
  c.labels = 0  # primary labels per client, for even and random
  c.alpha = 0.0  # for partition='dirichlet'
  c.counts = ()  # for partition='table': examples per client and class, or owner of `arrays`
  c.overlay = dict(share=0.0, clients=())  # a random share of all data that these clients also hold
  c.augment = dict(kind="none")
  c.normalise = dict(mean=(0.5,), std=(0.5,))  # of pixels in 0..1 or features; ("data",): measured

  # Start: fresh weights, common to all clients or not, or the weights of another run
  # `client` is a number as in `kdjax.load`: over all architectures, replica by replica. `part` is
  # the modules that are taken; (): all.
  c.start = dict(common=False, workdir="", client=0, part=())

  # Graph: edges from student to teacher; kinds separated by commas take turns of `every` batches
  c.graph = dict(kind="complete", every=0, island=2, degree=2, edges=(), seed=0)

  # Hostile clients: they falsify everything they send (core/hostile.py); `scale`: size of logits
  c.hostile = dict(kind="none", clients=(), scale=20.0)

  # Method
  c.algorithm = "separate"  # or 'package.module:METHOD'
  c.algo = dict()  # its hyper-parameters
  # Runs that follow on the same split, under WORKDIR/NAME/: names of `baselines`, or variants,
  # {name: {key: value}} with the keys that differ; with the same method, `algo` may be partial.
  c.compare = anything(())
  # {name: the keys that differ}; --config=FILE.py:NAME runs one in place of the config's method.
  c.baselines = dict(
    separate=dict(algorithm="separate", algo=dict()),
    fedavg=dict(algorithm="fedavg", algo=dict(local_steps=20, local_epochs=0, momentum="keep")),
    kd=dict(algorithm="kd", algo=dict(alpha=0.5, beta=0.5, local_epochs=1, distil_epochs=1)),
    gossip=dict(  # or variant='admm'
      algorithm="gossip", algo=dict(variant="average", local_epochs=1, rho=0.1, mu=1.0)
    ),
  )
  c.optim = sgd(lr=0.1, clip=0.0)

  # Records
  c.log_every = 100  # batches between two lines of losses; 0: one at the end
  c.save_every = 500  # batches between two checkpoints; 0: one at the end, or at a stop
  c.evals = dict(accuracy=dict(every=500, batch=256))  # every=0: after every round

  # Faults: the reaction of a run
  c.faults = dict(
    # On a number that is not finite: reset (only skip the step), freeze the client, stop the run
    client="reset",
    saves=5,  # consecutive failed saves that end the run; until then training continues
    images=0.01,  # a larger share of unreadable images ends the run
  )

  # Peers: clients that train in processes of their own and meet in a shared folder (--peers)
  c.peers = dict(
    age=50,  # the most rounds by which a snapshot may be older than the refresh that takes it
    keep=20,  # rounds of its own messages that a client leaves in the folder; 0: all
    wait_seconds=0.0,  # > 0: wait at most this long for messages of the current round
    look_seconds=0.2,  # between two looks into the folder while waiting
  )

  # Hardware: changes no result beyond rounding
  c.input = dict(workers=0, ahead=2)  # processes that read sets that are not resident; 0: threads
  c.mesh = dict(
    map="auto",
    conv="auto",
    remat="auto",  # 'on': activations are recomputed, not kept; auto: only where they do not fit
    blocks="unroll",  # 'scan': equal ResNet blocks as a loop: compiles faster, moves more memory
    steps_per_dispatch=0,
    device_tflops=100.0,  # for --plan without --target
  )
  return c


def sgd(lr, clip, schedule="cosine", weight_decay=1e-4):
  """SGD with momentum 0.9, as in the paper; `clip` limits each client's gradient norm, 0: none."""
  return dict(
    name="sgd",
    lr=lr,
    schedule=schedule,
    warmup=0,
    momentum=0.9,
    nesterov=False,
    weight_decay=weight_decay,
    clip=clip,
  )


def adam(lr, eps=1e-7, weight_decay=0.0, amsgrad=False):
  """Adam at a constant rate; the default epsilon is Keras's, as in FedMD's code."""
  return dict(
    name="adam",
    lr=lr,
    schedule="constant",
    warmup=0,
    b1=0.9,
    b2=0.999,
    eps=eps,
    amsgrad=amsgrad,
    weight_decay=weight_decay,
    clip=0.0,
  )


def anything(value):
  """A field for values of any type, which the command line takes as Python literals."""
  field = config_dict.placeholder(object)
  field.set(value)
  return field


def algo(hyper):
  """A method's hyper-parameters, a dataclass, in the form of a config.

  A hyper-parameter of several types, such as `int | tuple`, takes a value of each of them, also
  from the command line.
  """
  values = dataclasses.asdict(hyper)
  for field in dataclasses.fields(hyper):
    if typing.get_origin(field.type) in (typing.Union, types.UnionType):
      values[field.name] = anything(values[field.name])
  return values


def network(c, chosen):
  """The `clients` of a config with one network (model, arguments) for all of them."""
  return ((sum(n for n, *_ in c.clients), *chosen),)


def pooled(c, chosen=None):
  """The keys that differ where one client holds all private data and trains alone.

  Its network is that of the first clients, or `chosen`, (model, arguments).
  """
  (_, *first), *_ = c.clients
  changes = dict(algorithm="separate", algo=dict(), partition="equal")
  return changes | dict(clients=((1, *(chosen or first)),))


MHD_WORDS = {"teachers": "teachers", "heads": "aux_heads"}


def crossed(c, words, networks=None):
  """Applies the words after a config file's name, FILE.py:WORDS, to its config.

  Args:
    c: the config.
    words: a baseline's name, then `name=value`, separated by commas: `network`, an entry of
      `networks`; `graph`, a kind; `teachers` and `heads`, for MHD. `probe` adds a linear probe.
    networks: {name: (model, arguments)}.

  Raises:
    ValueError: for an unknown word; names the known ones.
  """
  for word in filter(None, words.split(",")):
    name, equals, value = word.partition("=")
    if word == "probe":
      c.evals.linear_probe = dict(
        every=10**9, batch=c.evals.accuracy.batch, limit=10_000, C=1.0, iterations=1_000
      )
    elif not equals:
      _become(c, name)
    elif name == "network" and value in (networks or {}):
      c.clients = network(c, networks[value])
    elif name == "graph":
      c.graph.kind = value
    elif name in MHD_WORDS and value.isdecimal():
      c.algo[MHD_WORDS[name]] = int(value)
    else:
      known = "".join(f", network={n}" for n in networks or {})
      methods = ", ".join((*c.baselines, "supervised"))
      more = f"probe, graph=KIND, teachers=N, heads=N{known}"
      raise ValueError(f"{word!r} in {words!r}: one of {methods}; then {more}")
  return c


def _become(c, name):
  """Replaces the config's own experiment by that of a baseline."""
  known = {"supervised": pooled(c), **c.baselines}
  if name not in known:
    raise ValueError(f"{name!r} is none of the baselines {', '.join(known)}")
  for key, value in known[name].items():
    c[key] = value
  c.compare = ()
