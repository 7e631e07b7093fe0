"""K clients that teach each other by MHD in PyTorch, one after another.

  pip install torch==2.13.0

The same step as kdjax's: cross entropy of the main head on private images; on public ones each of
three auxiliary heads learns from the surer of a teacher (a random snapshot of the client's pool, in
evaluation mode) and the client itself at the level below, and the embedding follows the teacher's.
Unlike kdjax's, the public pass moves BatchNorm's running statistics, which costs the same.

spec: as `torch_step.py`'s, 'form': 'eager', 'compiled' or 'graphs'.
"""

import copy
import random

import torch
from torch.nn import functional as F
from torch_models import MODELS
from torch_protocol import serve
from torch_step import Data, compiled, gather, sgd

AUX_HEADS, POOL = 3, 2


def network(spec):
  """A model with a main and three auxiliary heads."""
  make, *_ = MODELS[spec["model"]]
  return make(1 + AUX_HEADS).to(spec["device"], memory_format=torch.channels_last).train()


def loss_of(spec):
  """(model, teacher, `Data.next` of its private and of the public data) -> one client's loss."""

  def loss(model, teacher, private, public):
    (images, labels), (public, _) = gather(*private), gather(*public)
    with torch.autocast(spec["device"], torch.bfloat16, enabled=spec["dtype"] == "bfloat16"):
      _, logits = model(images)
      embedding, public_logits = model(public)
      with torch.no_grad():
        taught, told = teacher(public)
    with torch.no_grad():
      both = torch.stack([told, public_logits])[:, :, :AUX_HEADS].softmax(-1)
      surer = both.amax(-1).argmax(0)  # [U, heads]
      target = both.gather(0, surer[None, :, :, None].expand_as(both[:1]))[0]
    student = public_logits[:, 1:].log_softmax(-1)
    distilled = -(target * student).sum(-1).mean(0).sum()
    distance = (embedding - taught).square().sum(-1).mean()
    return F.cross_entropy(logits[:, 0], labels) + 3.0 * distilled + distance

  return loss


def prepare(spec):
  """A function that does one block."""
  loss = compiled(spec, loss_of(spec), 2 * spec["clients"])
  models = [network(spec) for _ in range(spec["clients"])]
  optimisers = [sgd(model.parameters()) for model in models]
  snapshot = lambda model: copy.deepcopy(model).eval().requires_grad_(False)
  others = models[1:] + models[:1]
  pools = [[snapshot(other) for _ in range(POOL)] for other in others]
  private, public = ([Data(spec) for _ in models] for _ in range(2))

  def block():
    for _ in range(spec["steps"]):
      for k, (model, optimiser) in enumerate(zip(models, optimisers, strict=True)):
        loss(model, random.choice(pools[k]), private[k].next(), public[k].next()).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

  return block


if __name__ == "__main__":
  serve(prepare)
