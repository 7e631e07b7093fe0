"""Suite `accelerator`: one GPU, in kdjax and in PyTorch."""

import dataclasses

from benchmarks import options as sides
from benchmarks import tables
from benchmarks.contest import Contest
from benchmarks.settings import MACS, TEACHERS

TITLE = "one GPU: ResNet-34 at 224 px, and many CIFAR ResNet-20, beside PyTorch"
NOTE = """\
bfloat16 with float32 weights (PyTorch: autocast, channels-last). Images are training-equivalent: a
forward pass alone, such as a teacher's, counts a third. FLOPs are six a multiply-add of the forward
pass and such an image, so that *of peak* is MFU against the product of two 8192 x 8192 bfloat16
matrices in the same contest. *Graphs* is PyTorch's `reduce-overhead` mode."""
COLUMNS = (
  tables.TIME,
  tables.RATIO,
  dataclasses.replace(tables.IMAGES, heading="training-equivalent images/s"),
  tables.RATE,
  dataclasses.replace(tables.SHARE, heading="MFU"),
  tables.COMPILE,
  tables.SCRATCH,
  tables.DEVICE,
)


def contests(options):
  """ResNet-34, separate and MHD; ResNet-20 fused and one after another."""
  batch, Ks, steps = (2, (2,), 1) if options.quick else (128, (8,), 4)
  for K in options.K(Ks):
    for algorithm, label in (("separate", "separate"), ("mhd", "MHD")):
      name = f"resnet34, K = {K}, batch {batch}, {label}"
      if options.wants(name):
        spec = dict(model="resnet34", clients=K, batch=batch, algorithm=algorithm, steps=steps)
        yield contest(options, name, spec, {"a loop": {"map": "scan"}}, {"vmap": {"map": "vmap"}})
  for K in options.K((16, 32, 64)):
    name = f"resnet20, K = {K}, batch 32"
    if options.wants(name):
      steps = 1 if options.quick else max(1, 640 // K)
      spec = dict(model="resnet20", clients=K, batch=32, algorithm="separate", steps=steps)
      forms = {"one after another": {"form": "alone"}, "fused": {}}
      yield contest(options, name, spec, forms, {})


def contest(options, name, spec, forms, last):
  """kdjax in some forms, the peak, and PyTorch's ways; without a GPU none but a smoke test's.

  Args:
    options: Options.
    name: the contest's.
    spec: what all have in common.
    forms: {label: what differs} of kdjax.
    last: likewise; these get ready after all others, so that if one does not fit into the device
      beside them, they are there already.
  """
  spec = spec | {"dtype": "bfloat16", "device": "cuda" if options.gpu else "cpu"}
  images = equivalent_images(spec)
  values = dict(images=images, flops=6 * MACS[spec["model"]] * images)
  own = lambda forms: [
    sides.own(f"kdjax, {label}", "step", spec | {"form": "fused"} | form, **values)
    for label, form in forms.items()
  ]
  sides_of = [*own(forms), sides.peak(options, "bfloat16")]
  script, ways = "torch_step.py", ("eager", "compiled", "graphs", "func")
  if spec["algorithm"] == "mhd":
    script, ways = "torch_mhd.py", ways[:3]
  for form in ways:
    label = {"func": "torch.func, vmap of grad"}.get(form, f"PyTorch, {form}")
    sides_of.append(sides.rival(options, "torch", label, script, spec | {"form": form}, **values))
  sides_of += own(last)
  if not (options.gpu or options.quick):
    sides_of = [dataclasses.replace(c, command=(), missing="no GPU") for c in sides_of]
  return Contest(name, tuple(sides_of))


def equivalent_images(spec):
  """Images of a step of all clients, those that only a teacher looks at as a third."""
  each = 1 if spec["algorithm"] == "separate" else 2 + TEACHERS / 3
  return spec["clients"] * spec["batch"] * each
