"""What every experiment has: all top-level keys, each with a comment. Not an experiment itself."""

import dataclasses
import types
import typing

from ml_collections import ConfigDict, config_dict


def base():
  """A config with neutral values; an experiment fills in the rest."""
  c = ConfigDict()
  c.seed = 0
  c.replicas = 1  # seeds seed, seed + 1, .. side by side in one run
  c.clients = ()  # entries (how many, model, model arguments)
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
  info = dict(train=0, test=0, image=(0, 0, 0), classes=0)  # zeros: as the source is found to be
  info |= dict(resize=False, grey=False, decoder="pillow")  # of encoded images
  c.source_info = dict(info)
  c.source_resident_bytes = 8 * 2**30  # larger sets are read as they are needed
  c.limit = 0  # > 0: use only so many training images, drawn by a fixed seed
  # n > 0: so many training images are the test set. (n, m): m others, and the n are nobody's.
  c.holdout = anything(0)
  c.public_source = ""  # '': the public set is a share of `source`
  c.public_source_info = dict(info)
  c.public_share = 0.1  # gamma_pub: what is public is withheld from the clients
  c.public_reuse = False  # whether what is private is public too, without its labels (MHD+)
  c.public_limit = 0  # > 0: use only so many of the public examples; who holds what stays
  c.public_labels = False  # whether a method may use the labels of public examples
  c.partition = "skew"  # skew, dirichlet, equal, table, owner
  c.skew = 0.0  # s, for partition='skew'; float('inf') is allowed
  c.primary = "random"  # how primary labels are dealt: even, random, explicit
  c.primary_labels = ()  # for primary='explicit': labels of `source`, a tuple a client
  c.labels = 0  # primary labels of a client, for even and random
  c.alpha = 0.0  # for partition='dirichlet'
  c.counts = ()  # for partition='table': examples per client and class, or owner of `arrays`
  c.overlay = dict(share=0.0, clients=())  # a random share of all data that these hold too
  c.augment = dict(kind="none")
  c.normalise = dict(mean=(0.5,), std=(0.5,))  # of pixels in 0..1 or features; ("data",): measured

  # Where training starts: everyone alike, or at the weights (or some modules') of a run's client,
  # by its number as `kdjax.load` counts: over all architectures, replica by replica
  c.start = dict(common=False, workdir="", client=0, part=())

  # Who learns from whom; several kinds, separated by commas, take turns of `every` batches
  c.graph = dict(kind="complete", every=0, island=2, degree=2, edges=(), seed=0)

  # Clients that lie in whatever they send (core/hostile.py); `scale`: how sure they pretend to be
  c.hostile = dict(kind="none", clients=(), scale=20.0)

  # Method
  c.algorithm = "separate"  # or 'package.module:METHOD'
  c.algo = dict()  # its hyper-parameters
  # Runs afterwards on the same split, under WORKDIR/NAME/: names of `baselines`, or variants,
  # {name: {key: value}}: what differs, `algo` in part where the method stays the same.
  c.compare = anything(())
  # By name, what differs; --config=FILE.py:NAME runs one in place of the config's own method.
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

  # Faults: what a run does about them
  c.faults = dict(
    client="reset",  # whose numbers are not finite: reset, freeze (it falls silent), stop (the run)
    saves=5,  # so many saves in a row that fail end the run; until then training goes on
    images=0.01,  # a larger share of images that cannot be read ends the run
  )

  # Peers: clients that train apart, each a process, and meet in a shared folder (--peers)
  c.peers = dict(
    age=50,  # a snapshot may be so many rounds older than the refresh that takes it
    keep=20,  # so many rounds of its own messages a client leaves in the folder; 0: all
    wait_seconds=0.0,  # > 0: wait so long for messages of the very round; 0: nobody waits
    look_seconds=0.2,  # between two looks into the folder while waiting
  )

  # Hardware: changes no result beyond rounding
  c.input = dict(workers=0, ahead=2)  # processes that read what is not resident; 0: threads
  c.mesh = dict(
    map="auto",
    conv="auto",
    remat="auto",  # 'on': activations are computed again, not kept; auto: where they do not fit
    blocks="unroll",  # 'scan': alike blocks of a ResNet are a loop: sooner compiled, moves more
    steps_per_dispatch=0,
    device_tflops=100.0,  # of --plan without --target
  )
  return c


def sgd(lr, clip, schedule="cosine", weight_decay=1e-4):
  """SGD with momentum 0.9, as in the paper; `clip` is each client's gradient norm, 0: none."""
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
  """Adam at a constant rate; unless told otherwise with Keras's epsilon, as in FedMD's code."""
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
  """A field that takes values of any type, also from the command line, as Python literals."""
  field = config_dict.placeholder(object)
  field.set(value)
  return field


def algo(hyper):
  """A method's hyper-parameters, a dataclass, as a config holds them.

  Those of several types, such as `int | tuple`, take a value of any, also from the command line.
  """
  found = dataclasses.asdict(hyper)
  for field in dataclasses.fields(hyper):
    if typing.get_origin(field.type) in (typing.Union, types.UnionType):
      found[field.name] = anything(found[field.name])
  return found


def network(c, chosen):
  """The `clients` of a config with one network (model, arguments) for all of them."""
  return ((sum(n for n, *_ in c.clients), *chosen),)


def pooled(c, chosen=None):
  """What differs where one client holds all private data and trains alone.

  Its network is that of the first clients, or `chosen`, (model, arguments).
  """
  (_, *first), *_ = c.clients
  changes = dict(algorithm="separate", algo=dict(), partition="equal")
  return changes | dict(clients=((1, *(chosen or first)),))


MHD_WORDS = {"teachers": "teachers", "heads": "aux_heads"}


def crossed(c, words, networks=None):
  """A config with what follows its file's name, FILE.py:WORDS, put into it.

  Args:
    c: the config.
    words: a baseline's name, then `name=value`, separated by commas: `network`, an entry of
      `networks`; `graph`, a kind; `teachers` and `heads`, MHD's. `probe` adds a linear probe.
    networks: {name: (model, arguments)}.

  Raises:
    ValueError: for a word that means nothing here; says what does.
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
  """The experiment of a baseline in place of the config's own."""
  known = {"supervised": pooled(c), **c.baselines}
  if name not in known:
    raise ValueError(f"{name!r} is none of the baselines {', '.join(known)}")
  for key, value in known[name].items():
    c[key] = value
  c.compare = ()
