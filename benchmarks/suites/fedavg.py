"""Suite `fedavg`: FedAvg on FedJAX's EMNIST setting."""

from benchmarks import options as sides
from benchmarks import tables
from benchmarks.contest import Contest

TITLE = "FedAvg, EMNIST's convolutional network: 10 clients x 5 steps x batch 10"
NOTE = """\
A round of FedJAX's EMNIST benchmark: 10 clients of 50 examples take 5 local steps at batch 10, then
their weights are averaged. Synthetic images of 28 x 28 x 1, in memory on every side; two
convolutions (32, 64), max-pooling, 128 units, dropout, 62 classes. A step of the table is a round.
Both servers take the mean as it is."""
BATCH, LOCAL_STEPS = 10, 5
CLIENT_STEPS = tables.Column(
  "client-steps/s",
  lambda row, first, peak: (
    f"{row['images'] / BATCH / tables.step_seconds(row):,.0f}" if row["images"] else ""
  ),
)
COLUMNS = (
  tables.TIME,
  tables.RATIO,
  CLIENT_STEPS,
  tables.RATE,
  tables.SHARE,
  tables.COMPILE,
  tables.SCRATCH,
  tables.RESIDENT,
)


def contests(options):
  """One contest for every number of clients."""
  for K in options.K((10,)):
    name = f"K = {K}"
    if options.wants(name):
      rounds = 1 if options.quick else 4
      spreads = (1,) if options.gpu else (1, 2)
      yield contest(options, name, "emnist", K, rounds, [fedjax(n) for n in spreads])


def fedjax(devices):
  """FedJAX on so many devices: its `jit` backend on one, `pmap` on several."""
  label = "FedJAX" if devices == 1 else f"FedJAX, {devices} devices"
  return "fedjax", label, "fedjax_fedavg.py", {"devices": devices}


def contest(options, name, model, K, rounds, rivals):
  """kdjax on one device and on two, the peak, and rivals (interpreter, label, script, spec)."""
  spec = dict(model=model, clients=K, batch=BATCH, examples=BATCH * LOCAL_STEPS, steps=rounds)
  spec |= dict(local_steps=LOCAL_STEPS, seed=0)
  step = sides.count.step_flops(spec | {"algorithm": "separate"})
  values = dict(images=K * LOCAL_STEPS * BATCH, flops=LOCAL_STEPS * step)
  own = spec | {"algorithm": "fedavg", "form": "rounds"}
  contestants = [sides.own("kdjax", "step", own, **values)]
  if not options.gpu:
    contestants.append(sides.own("kdjax, 2 devices", "step", own | {"devices": 2}, **values))
  contestants.append(sides.peak(options))
  for rival, label, script, more in rivals:
    contestants.append(sides.rival(options, rival, label, script, spec | more, **values))
  return Contest(name, tuple(contestants))
