"""FedGKT's networks: published sizes and operations, and that a full one is its two parts."""

import math

import chex
import jax
import numpy as np
import pytest

from kdjax.models.build import build_model
from kdjax.types import ConfigError

COMMON = dict(classes=10, heads=1, norm="batch", dtype="float32", project=0)
CIFAR, FEATURES = (1, 32, 32, 3), (1, 32, 32, 16)
RESNETS = {  # kind and depth: (input, parameters)
  ("Edge", 4): (CIFAR, 5_306),
  ("Edge", 6): (CIFAR, 9_978),
  ("Edge", 8): (CIFAR, 10_586),
  ("Server", 55): (FEATURES, 590_858),
  ("Server", 109): (FEATURES, 1_147_274),
  ("Model", 56): (CIFAR, 591_322),
  ("Model", 110): (CIFAR, 1_147_738),
}
CNNS = {  # kind: (widths, input)
  "Edge": (dict(front=((3, 1), (4, 2)), widths=(5,)), (2, 6, 6, 1)),
  "Server": (dict(widths=(6, 7)), (2, 3, 3, 4)),
  "Model": (dict(front=((3, 1), (4, 2)), widths=(6, 7)), (2, 6, 6, 1)),
}


def resnet(kind, depth, **changes):
  return build_model(f"gkt_resnet:{kind}", **(COMMON | changes), depth=depth)


def cnn(kind):
  return build_model(f"split_cnn:{kind}", **COMMON, **CNNS[kind][0])


def shapes(model, shape):
  """(variables, ModelOut) of the evaluation mode, abstract."""
  images = np.zeros(shape, np.float32)
  both = lambda key: model.init_with_output(key, images, train=False)
  out, variables = jax.eval_shape(both, jax.random.key(0))
  return variables, out


def parameters(variables):
  return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def multiplications(model, shape):
  """Of convolutions and linear layers for one image: what each output's terms come to."""
  images = np.zeros(shape, np.float32)
  variables, _ = shapes(model, shape)
  jaxpr = jax.make_jaxpr(lambda v: model.apply(v, images, train=False).logits)(variables).jaxpr
  return sum(map(_multiplications, jaxpr.eqns))


def _multiplications(eqn):
  if eqn.primitive.name == "conv_general_dilated":
    terms = math.prod(eqn.invars[1].aval.shape[:3])  # of an HWIO kernel
  elif eqn.primitive.name == "dot_general":
    terms = eqn.invars[1].aval.shape[0]
  else:
    inner = [p for p in eqn.params.values() if hasattr(p, "eqns") or hasattr(p, "jaxpr")]
    return sum(_multiplications(e) for p in inner for e in getattr(p, "jaxpr", p).eqns)
  return terms * eqn.outvars[0].aval.size


def norms(model, shape, axes):
  """The axes that BatchNorm sums over in a training step, of every one of its sums."""
  images = np.zeros(shape, np.float32)
  variables, _ = shapes(model, shape)
  auto = (jax.sharding.AxisType.Auto,) * 2
  mesh = jax.make_mesh((1, 1), ("client", "data"), auto, devices=jax.devices()[:1])
  step = lambda v: model.apply(v, images, train=True, mutable=["batch_stats"])[0].logits
  every = jax.sharding.PartitionSpec()
  step = jax.shard_map(step, mesh=mesh, in_specs=every, out_specs=every, check_vma=False)
  (eqn,) = jax.make_jaxpr(step)(variables).jaxpr.eqns
  found = [e.params["axes"] for e in eqn.params["jaxpr"].eqns if e.primitive.name == "psum"]
  return len(jax.tree.leaves(variables["batch_stats"])) // 2, found


# gkt_resnet


@pytest.mark.parametrize("kind, depth", RESNETS)
def test_the_networks_have_the_published_codes_sizes(kind, depth):
  shape, size = RESNETS[kind, depth]
  model = resnet(kind, depth)
  variables, out = shapes(model, shape)
  assert parameters(variables) == size
  chex.assert_shape(out.logits, (1, 1, 10))
  assert out.embedding.shape[1] == {4: 16, 6: 16, 8: 64}.get(depth, 256)
  stages = {"stage1": 64, "stage2": 128, "stage3": 256}
  if kind == "Edge":
    stages = {"stage1": out.embedding.shape[1]}
  stem = {} if kind == "Server" else {"extractor": (1, 32, 32, 16)}
  right = stem | {
    name: (1, 32 // 2**i, 32 // 2**i, width) for i, (name, width) in enumerate(stages.items())
  }
  assert {name: f.shape for name, f in out.features.items()} == right


def test_resnet_8_by_hand():
  """The stem, two bottlenecks 16-16-64 of which the first has a projection, the classifier."""
  convolutions = [(3, 3, 16)]  # (kernel, inputs, outputs), all on 32x32 pixels
  convolutions += [(1, 16, 16), (3, 16, 16), (1, 16, 64), (1, 16, 64)]
  convolutions += [(1, 64, 16), (3, 16, 16), (1, 16, 64)]
  kernels = sum(k * k * a * b for k, a, b in convolutions)
  norms = sum(2 * b for _, _, b in convolutions)
  assert RESNETS["Edge", 8][1] == kernels + norms + 64 * 10 + 10
  assert multiplications(resnet("Edge", 8), CIFAR) == 1024 * kernels + 64 * 10 == 9_618_048


@pytest.mark.parametrize("depth, ratio", [(56, 9.07), (110, 17.41)])
def test_the_full_networks_cost_as_many_times_the_edges_as_published(depth, ratio):
  edge = multiplications(resnet("Edge", 8), CIFAR)
  assert round(multiplications(resnet("Model", depth), CIFAR) / edge, 2) == ratio


def test_a_full_resnet_is_an_extractor_and_a_server():
  edge, server, full = (
    shapes(resnet(kind, depth), RESNETS[kind, depth][0])[0]
    for kind, depth in (("Edge", 8), ("Server", 55), ("Model", 56))
  )
  for collection in ("params", "batch_stats"):
    both = server[collection] | {"extractor": edge[collection]["extractor"]}
    chex.assert_trees_all_equal(full[collection], both)


def test_the_stride_is_on_the_bottlenecks_3x3_convolution():
  variables, _ = shapes(resnet("Server", 55), FEATURES)
  block = variables["params"]["stage2_block1"]
  kernels = {n: layer["Conv_0"]["kernel"].shape for n, layer in block.items()}
  assert kernels == {
    "ConvNorm_0": (1, 1, 64, 32),
    "ConvNorm_1": (3, 3, 32, 32),
    "ConvNorm_2": (1, 1, 32, 128),
    "shortcut": (1, 1, 64, 128),
  }
  # Per pixel of the input: the 1x1 before the stride sees all of them, what follows a quarter.
  plain = 64 * 32 + (9 * 32 * 32 + 32 * 128 + 64 * 128) // 4
  later = (128 * 32 + 9 * 32 * 32 + 32 * 128) // 4
  first = (16 * 16 + 9 * 16 * 16 + 16 * 64 + 16 * 64) + 5 * (64 * 16 + 9 * 16 * 16 + 16 * 64)
  third = (128 * 64 + (9 * 64 * 64 + 64 * 256 + 128 * 256) // 4) // 4
  third += 5 * (256 * 64 + 9 * 64 * 64 + 64 * 256) // 16
  right = 1024 * (first + plain + 5 * later + third) + 256 * 10
  assert multiplications(resnet("Server", 55), FEATURES) == right


@pytest.mark.parametrize("kind, depth", [("Edge", 56), ("Server", 56), ("Model", 55)])
def test_another_depth_is_refused(kind, depth):
  with pytest.raises(ConfigError, match="depth is one of"):
    resnet(kind, depth)


def test_the_published_start_fits_the_edge():
  """conv1, bn1 and layer1's first two blocks of ResNet-56: `start.part` of FedGKT's code."""
  (full, _), (edge, _) = shapes(resnet("Model", 56), CIFAR), shapes(resnet("Edge", 8), CIFAR)
  for name in ("extractor", "stage1_block1", "stage1_block2"):
    chex.assert_trees_all_equal(full["params"][name], edge["params"][name])


# split_cnn


def test_a_full_cnn_is_an_extractor_and_a_server():
  parts = {kind: shapes(cnn(kind), shape) for kind, (_, shape) in CNNS.items()}
  (edge, _), (server, _), (full, out) = (parts[k] for k in ("Edge", "Server", "Model"))
  for collection in ("params", "batch_stats"):
    both = server[collection] | {"extractor": edge[collection]["extractor"]}
    chex.assert_trees_all_equal(full[collection], both)
  sizes = {name: f.shape[1:] for name, f in out.features.items()}
  assert sizes == {"extractor": (3, 3, 4), "layer1": (3, 3, 6), "layer2": (2, 2, 7)}


def test_what_an_edge_extracts_goes_into_a_server_as_into_the_full_network():
  images = np.random.default_rng(0).normal(size=CNNS["Model"][1]).astype(np.float32)
  full, server = cnn("Model"), cnn("Server")

  def both(key):
    whole, variables = full.init_with_output(key, images, train=False)
    rest = {c: {k: v for k, v in tree.items() if k != "extractor"} for c, tree in variables.items()}
    return whole, server.apply(rest, whole.features["extractor"], train=False)

  whole, part = jax.jit(both)(jax.random.key(0))
  assert np.abs(whole.logits).max() > 0
  chex.assert_trees_all_close(part.logits, whole.logits, rtol=1e-6)
  chex.assert_trees_all_close(part.embedding, whole.embedding, rtol=1e-6)


# Both


@pytest.mark.parametrize("kind", CNNS)
@pytest.mark.parametrize("family", ["gkt_resnet", "split_cnn"])
def test_every_norm_sums_over_the_axes_given(family, kind):
  sizes, shape = CNNS[kind]
  if family == "gkt_resnet":
    sizes = dict(depth={"Edge": 8, "Server": 55, "Model": 56}[kind])
    shape = (2, 8, 8, 16 if kind == "Server" else 3)
  axes = ("client", "data")
  model = build_model(f"{family}:{kind}", **COMMON, **sizes, axes=axes)
  layers, sums = norms(model, shape, axes)
  assert len(sums) >= 2 * layers and set(sums) == {axes}
