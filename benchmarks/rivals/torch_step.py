"""K clients trained by PyTorch, as its users do it: one after another, or by `torch.func`.

  pip install torch==2.13.0

spec: {'model', 'clients', 'batch', 'steps', 'dtype' (bfloat16: autocast), 'device', 'form'}; a form
is 'eager', 'compiled', 'graphs' or 'func'. Images are uint8 tensors on the device, gathered by
fresh indices every step and normalised; the compiled forms compile that too.
"""

import torch
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn import functional as F
from torch_models import MODELS
from torch_protocol import serve

MODES = {"compiled": "default", "graphs": "reduce-overhead"}  # of torch.compile


def sgd(params, stacked=0):
  """SGD with momentum 0.9 that decays kernels alone, not biases and normalisation.

  Args:
    params: tensors.
    stacked: 1 where they have a leading axis of clients.
  """
  kernels, others = [], []
  for p in params:
    (kernels if p.ndim - stacked > 1 else others).append(p)
  groups = [{"params": kernels, "weight_decay": 1e-4}, {"params": others}]
  return torch.optim.SGD(groups, lr=0.01, momentum=0.9, fused=True)


class Data:
  """A client's resident images and labels."""

  def __init__(self, spec):
    """Noise: four batches."""
    _, image, classes = MODELS[spec["model"]]
    n = 4 * spec["batch"]
    layout = torch.channels_last
    images = torch.randint(256, (n, *image), dtype=torch.uint8).to(memory_format=layout)
    self.images = images.to(spec["device"])
    self.labels = torch.randint(classes, (n,), device=spec["device"])
    for whole in (self.images, self.labels):
      torch._dynamo.mark_static_address(whole)  # or a graph copies them all in every step
    self.batch, self.order, self.at = spec["batch"], torch.randperm(n), 0

  def next(self):
    """(images u8[N, c, h, w], labels i64[N], i64[B]): all, and the next of a shuffled epoch."""
    if self.at == len(self.order):
      self.order, self.at = torch.randperm(len(self.order)), 0
    index = self.order[self.at : self.at + self.batch].to(self.images.device)
    self.at += self.batch
    return self.images, self.labels, index


def gather(images, labels, index):
  """(f32[B, c, h, w] normalised, i64[B]): the examples of a batch, from `Data.next`."""
  return (images[index].float() / 255 - 0.5) / 0.25, labels[index]


def network(spec):
  """A model on the device, in channels-last layout."""
  make, *_ = MODELS[spec["model"]]
  return make(1).to(spec["device"], memory_format=torch.channels_last).train()


def loss_of(spec):
  """(model, images, labels) -> cross entropy of the main head."""

  def loss(model, images, labels):
    with torch.autocast(spec["device"], torch.bfloat16, enabled=spec["dtype"] == "bfloat16"):
      _, logits = model(images)
    return F.cross_entropy(logits[:, 0], labels)

  return loss


def compiled(spec, loss, calls):
  """The loss compiled as the form says, and what every call of it begins with.

  Args:
    spec: see the file's docstring.
    loss: a function.
    calls: how many different models it is called with.
  """
  if spec["form"] not in MODES:
    return loss
  torch._dynamo.config.cache_size_limit = max(8, 2 * calls)
  fast = torch.compile(loss, mode=MODES[spec["form"]])

  def begun(*arguments):
    torch.compiler.cudagraph_mark_step_begin()  # nothing of the call before is needed any more
    return fast(*arguments)

  return begun


def one_by_one(spec):
  """Every client's step in turn; the compiled forms compile the loss and the gathering."""
  plain = loss_of(spec)
  loss = compiled(spec, lambda model, *batch: plain(model, *gather(*batch)), spec["clients"])
  models = [network(spec) for _ in range(spec["clients"])]
  optimisers = [sgd(model.parameters()) for model in models]
  data = [Data(spec) for _ in models]

  def block():
    for _ in range(spec["steps"]):
      for model, optimiser, source in zip(models, optimisers, data, strict=True):
        loss(model, *source.next()).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

  return block


def ensemble(spec):
  """All clients' gradients by one vmap over stacked parameters and statistics."""
  models, data = zip(*((network(spec), Data(spec)) for _ in range(spec["clients"])), strict=True)
  params, buffers = stack_module_state(models)
  optimiser, loss = sgd(params.values(), stacked=1), loss_of(spec)

  def objective(params, buffers, images, labels):
    call = lambda x: functional_call(models[0], (params, buffers), (x,))
    return loss(call, images, labels)

  gradients = vmap(grad_and_value(objective), randomness="different")

  def block():
    for _ in range(spec["steps"]):
      batches = zip(*(gather(*d.next()) for d in data), strict=True)
      images, labels = map(torch.stack, batches)
      grads, _ = gradients(params, buffers, images, labels)
      for name, p in params.items():
        p.grad = grads[name]
      optimiser.step()

  return block


def prepare(spec):
  """A function that does one block."""
  return ensemble(spec) if spec["form"] == "func" else one_by_one(spec)


if __name__ == "__main__":
  serve(prepare)
