"""Suite `clients`: K clients in one step, against one after another and against PyTorch."""

from benchmarks import options as sides
from benchmarks import tables
from benchmarks.contest import Contest

TITLE = "K clients: one step for all, one after another, PyTorch"
NOTE = """\
Batch 32 a client, float32, SGD with momentum 0.9 and weight decay; images are resident, gathered by
fresh indices every step on every side. *One after another* is kdjax's program for one client,
compiled once, K states stepped in turn by a dispatch each, waited for together; *dispatches shared*
means that each holds as many steps as the fused program's. *Flax* is the same without kdjax's code:
Flax's layers, Optax, one jitted step (`benchmarks/contestants/plain.py`). FLOPs are two a
multiply-add, as XLA counts one client's step, and the same number for everyone; the peak is a
square matrix product by JAX in the same contest. *Scratch* is what the compiled step needs beside
its arguments, per device. *Compile* is PyTorch's first block less its second."""
COLUMNS = tables.STEP
KS, QUICK_KS = (1, 2, 4, 8, 16), (1, 2)
CLIENT_STEPS = {"mlp": 3840, "cnn": 960, "resnet20": 16, "resnet18": 2}  # of a block, all clients
MOST = {"resnet18": 4}  # clients on a CPU


def contests(options):
  """A contest for every model and K."""
  for model, client_steps in CLIENT_STEPS.items():
    if options.quick and model not in ("mlp", "cnn"):
      continue
    for K in options.K(KS, QUICK_KS):
      name = f"{model}, K = {K}"
      if options.wants(name) and (options.gpu or MOST.get(model, K) >= K):
        steps = max(1, (20 if options.quick else client_steps) // K)
        yield Contest(name, (*ours(options, model, K, steps), *torchs(options, model, K, steps)))


def ours(options, model, K, steps):
  """The peak, then kdjax's ways of stepping K clients."""
  spec = dict(model=model, clients=K, batch=32, algorithm="separate", steps=steps)
  yield sides.step("one after another", spec | {"form": "alone", "steps_per_dispatch": 1})
  yield sides.step("one after another, dispatches shared", spec | {"form": "alone"})
  images, flops = sides.step_images(spec), sides.count.step_flops(spec)
  yield sides.own("Flax, one after another", "plain", spec, images=images, flops=flops)
  yield sides.step("fused", spec | {"form": "fused"})
  if K > 1 and not options.gpu:
    yield sides.step("fused, 2 devices", spec | {"form": "fused", "devices": 2})
  yield sides.peak(options)


def torchs(options, model, K, steps):
  """PyTorch's ways; channels-last where there are convolutions."""
  device = "cuda" if options.gpu else "cpu"
  spec = dict(model=model, clients=K, batch=32, steps=steps, dtype="float32", device=device)
  values = dict(images=K * 32, flops=sides.count.step_flops(spec | {"algorithm": "separate"}))
  for form in ("eager", "compiled", "func"):
    name = {"func": "torch.func, vmap of grad"}.get(form, f"PyTorch, {form}")
    yield sides.rival(options, "torch", name, "torch_step.py", spec | {"form": form}, **values)
