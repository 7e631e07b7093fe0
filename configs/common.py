"""What every experiment has: all top-level keys, each with a comment. Not an experiment itself."""

from ml_collections import ConfigDict


def base():
  """A config with neutral values; an experiment fills in the rest."""
  c = ConfigDict()
  c.seed = 0
  c.replicas = 1  # seeds seed, seed + 1, .. side by side in one run
  c.clients = ()  # entries (how many, model, model arguments)
  c.model = dict(norm="none", dtype="float32", project=0)  # arguments common to all models
  c.steps = 0  # training batches; exactly one of steps and rounds is above 0
  c.rounds = 0  # turns of the method's cycle
  c.batch = 32  # private examples per client and step
  c.public_batch = 32  # public examples per client and step

  # Data
  # digits, tfds:NAME, idx:DIR, cifar:DIR, folder:DIR, npz:FILE, records:DIR, or your.module
  c.source = ""
  info = dict(
    train=0, test=0, image=(0, 0, 0), classes=0, resize=False, grey=False, decoder="pillow"
  )
  c.source_info = dict(info)
  c.source_resident_bytes = 8 * 2**30  # larger sets are read as they are needed
  c.limit = 0  # > 0: use only so many training images, drawn by a fixed seed
  c.holdout = 0  # > 0: so many training images are the test set
  c.public_source = ""  # '': the public set is a share of `source`
  c.public_source_info = dict(info)
  c.public_share = 0.1  # gamma_pub
  c.public_reuse = False  # whether public examples are private examples too
  c.public_labels = False  # whether a method may use the labels of public examples
  c.partition = "skew"  # skew, dirichlet, equal, table
  c.skew = 0.0  # s, for partition='skew'; float('inf') is allowed
  c.primary = "random"  # how primary labels are dealt: even, random, explicit
  c.primary_labels = ()  # for primary='explicit': labels of `source`, a tuple a client
  c.labels = 0  # primary labels of a client, for even and random
  c.alpha = 0.0  # for partition='dirichlet'
  c.counts = ()  # for partition='table': examples per client and class
  c.overlay = dict(share=0.0, clients=())  # a random share of all data that only these clients hold
  c.augment = dict(kind="none")
  c.normalise = dict(mean=(0.5,), std=(0.5,))  # of pixels in 0..1

  # Where training starts: everyone alike, or at the weights (or one module's) of a finished run
  c.start = dict(common=False, workdir="", client=0, part="")

  # Who learns from whom; several kinds, separated by commas, take turns of `every` batches
  c.graph = dict(kind="complete", every=0, island=2, degree=2, edges=(), seed=0)

  # Method
  c.algorithm = "separate"
  c.algo = dict()  # its hyper-parameters
  c.compare = ()  # methods to run afterwards on the same split, under WORKDIR/NAME/
  c.compare_rounds = dict()  # rounds of those among them that do not count in steps
  c.compare_algo = dict(
    separate=dict(),
    fedavg=dict(local_steps=20, momentum="keep"),
    kd=dict(alpha=0.5, beta=0.5, local_epochs=1, distil_epochs=1),
    gossip=dict(variant="average", local_epochs=1, rho=0.1, mu=1.0),  # or admm
  )
  c.optim = sgd(lr=0.1, clip=0.0)

  # Records
  c.log_every = 100
  c.save_every = 500
  c.evals = dict(accuracy=dict(every=500, batch=256))  # every=0: after every round

  # Hardware: changes no result beyond rounding
  c.input = dict(workers=0, ahead=2)  # processes that read what is not resident; 0: threads
  c.mesh = dict(map="auto", conv="auto", steps_per_dispatch=0, device_tflops=100.0)
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


def mhd(aux_heads, nu_emb, pool_size, refresh_every):
  """Hyper-parameters of MHD; what is not an argument is as in the paper."""
  return dict(
    aux_heads=aux_heads,
    nu_emb=nu_emb,
    nu_aux=3.0,
    exchange="pool",  # or fresh, published
    teachers=1,
    pool_size=pool_size,
    refresh_every=refresh_every,
    publish=0,  # snapshots a client to keep under pool/
    top_k=0,  # where predictions are sent: so many class probabilities, 0: all
    one_pass="auto",  # in the fresh exchange; or always, never
    target="confident",  # or random, or all (no gate)
    include_self=True,
    confidence="max",  # or entropy, margin
    skip_confident=False,
    rho="square",  # or pseudo_huber
    public_statistics=False,
  )


def fedgkt(server, server_epochs, server_batch):
  """Hyper-parameters of FedGKT; what is not an argument is as in the paper and its code.

  `server` is (model, all of its arguments).
  """
  return dict(
    server=server,
    cut="extractor",
    edge_epochs=1,
    server_epochs=server_epochs,
    server_batch=server_batch,
    order="client",  # or shuffled
    temperature=3.0,
    alpha=1.0,
    edge_distils=True,  # S -> E
    server_distils=True,  # E -> S
    plateau=dict(factor=0.1, patience=10),
    arrivals=0,  # clients that the server waits for: all; fewer: asynchronous
    present=1.0,
    keyed=True,  # False: the code's mistake
  )


def async_edge(epochs):
  """Hyper-parameters of asynchronous edge learning: CEM of the paper, `epochs` passes a phase."""
  return dict(
    init="clone",  # or independent, scratch
    ensemble=3,  # models at an edge; 1: plain
    memory=3,  # rounds that teach; 1: plain
    memory_reduce="sum",  # or mean
    temperature=4.0,
    literal=False,  # True: the student is not tempered, as printed
    core_epochs=epochs,
    edge_epochs=epochs,
    distil_epochs=epochs,
    arrivals=(),  # (edge, lag) a round; (): every edge in turn
    noisy=(),  # edges whose labels are corrupted
    noise=1.0,  # in so large a share of their batches
    flag_above=0.02,  # rise of the core's training accuracy that flags a round
  )


def pairwise(layer, alpha, map_lr):
  """Hyper-parameters of pairwise transfer; the paper leaves open what is not an argument."""
  return dict(
    layers=(layer,),
    alpha=alpha,
    beta=1 - alpha,
    variant="eq5",  # or algorithm1, as_coded
    noise=0.001,
    write="epoch",  # or batch
    transfer_optim=adam(lr=map_lr, eps=1e-8),
    local_epochs=1,
    transfer_epochs=1,
    sources=0,  # all teachers in the graph; n: the best n by what they advertise
    new_class_below=20,  # for `sources`: of a class of its own a client has seen more
  )


def with_method(c, name):
  """The same experiment with another method, by the hyper-parameters in `compare_algo`."""
  c.algorithm = name
  c.algo = c.compare_algo[name]
  c.compare = ()
  return c


def with_network(c, network):
  """The same experiment with one network (model, arguments) for all clients."""
  c.clients = ((sum(n for n, *_ in c.clients), *network),)
  return c


def pooled(c):
  """The same experiment with one client that holds all private data, trained alone."""
  (_, model, arguments), *_ = c.clients
  c.clients = ((1, model, arguments),)
  c.partition = "equal"
  return with_method(c, "separate")
