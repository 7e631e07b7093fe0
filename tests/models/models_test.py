"""Every model: its size, its outputs, and what must not change them."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import usually
from jax.sharding import PartitionSpec

from kdjax.core.costs import forward_flops
from kdjax.core.passes import heads_input
from kdjax.models.build import build_model
from kdjax.models.fedmd import ARCHITECTURES
from kdjax.models.heads import Heads, head_names
from kdjax.models.resnet import pad_shortcut
from kdjax.types import ClientState, ConfigError, ModelOut

QUICK = {"xla_backend_optimization_level": 0}  # these programs run once: compile them fast
COMMON = dict(classes=10, heads=1, norm="batch", dtype="float32", project=0)
RESNET = dict(depth=18, stem="small", remat=True)
SMALL = {  # arguments, image, embedding width, features
  "mlp": (
    dict(hidden=(16, 12), activation="tanh"),
    (4, 4, 1),
    12,
    {"layer1": (16,), "layer2": (12,)},
  ),
  "cnn": (dict(widths=(8, 16)), (8, 8, 1), 16, dict(layer1=(8, 8, 8), layer2=(4, 4, 16))),
  "split_cnn": (
    dict(front=((3, 1), (4, 2)), widths=(6, 7)),
    (8, 8, 1),
    7,
    dict(extractor=(4, 4, 4), layer1=(4, 4, 6), layer2=(2, 2, 7)),
  ),
  "gkt_resnet:Edge": (
    dict(depth=8),
    (6, 6, 3),
    64,
    dict(extractor=(6, 6, 16), stage1=(6, 6, 64)),
  ),
  "cifar_resnet": (
    dict(depth=8),
    (8, 8, 3),
    64,
    dict(stem=(8, 8, 16), stage1=(8, 8, 16), stage2=(4, 4, 32), stage3=(2, 2, 64)),
  ),
  "resnet": (
    RESNET,
    (8, 9, 3),
    512,
    dict(
      stem=(8, 9, 64),
      stage1=(8, 9, 64),
      stage2=(4, 5, 128),
      stage3=(2, 3, 256),
      stage4=(1, 2, 512),
    ),
  ),
  "fedmd": (
    dict(filters=(8, 6), dropout=0.2),
    (9, 9, 3),
    4 * 4 * 6,
    dict(layer1=(9, 9, 8), layer2=(4, 4, 6)),
  ),
}


def small(name, **changes):
  """(model, images f32[4, h, w, c]) of the table."""
  arguments, image, _, _ = SMALL[name]
  images = np.random.default_rng(0).normal(size=(4, *image)).astype(np.float32)
  return build_model(name, **(COMMON | arguments | changes)), images


def abstract(model, images):
  return jax.eval_shape(lambda key: model.init(key, images, train=False), jax.random.key(0))


def size(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def initial(model, images):
  init = lambda key: model.init(key, images, train=False)
  return jax.jit(init, compiler_options=QUICK)(jax.random.key(0))


def trainer(model, loss=lambda out: (out.logits**2).sum((1, 2))):
  """A jitted step on a 1x1 mesh.

  (variables, images, mask) -> ((sum of the unmasked losses, (out, statistics)), gradients)
  """
  auto = (jax.sharding.AxisType.Auto,) * 2
  mesh = jax.make_mesh((1, 1), ("client", "data"), auto, devices=jax.devices()[:1])

  def step(variables, images, mask):
    def objective(params):
      v = variables | {"params": params}
      rngs = {"dropout": jax.random.key(1)}
      out, changed = model.apply(v, images, True, mask, mutable=["batch_stats"], rngs=rngs)
      return (loss(out) * mask).sum(), (out, changed)

    return jax.value_and_grad(objective, has_aux=True)(variables["params"])

  every = PartitionSpec()
  step = jax.shard_map(step, mesh=mesh, in_specs=every, out_specs=every, check_vma=False)
  return jax.jit(step, compiler_options=QUICK)


# Sizes


@pytest.mark.parametrize(
  "depth, parameters", [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)]
)
def test_imagenet_resnets_have_the_published_size(depth, parameters):
  arguments = COMMON | RESNET | dict(classes=1000, depth=depth, stem="imagenet")
  model, images = build_model("resnet", **arguments), np.ones((1, 64, 64, 3), np.float32)
  variables = abstract(model, images)
  assert size(variables["params"]) == parameters
  out = jax.eval_shape(lambda v: model.apply(v, images, train=False), variables)
  shapes = {name: f.shape[1:3] for name, f in out.features.items()}
  assert shapes == dict(stem=(16, 16), stage1=(16, 16), stage2=(8, 8), stage3=(4, 4), stage4=(2, 2))


def test_a_hidden_layer_before_the_heads_is_added_where_asked_for():
  arguments, images = COMMON | RESNET, np.ones((1, 8, 8, 3), np.float32)
  heads = lambda **hidden: abstract(build_model("resnet", **arguments, **hidden), images)["params"][
    "heads"
  ]
  plain, wide = heads(), heads(hidden=16)
  assert set(plain) == {"main"} and set(wide) == {"hidden", "main"}
  assert wide["hidden"]["kernel"].shape == (512, 16) and wide["hidden"]["bias"].shape == (16,)
  assert wide["main"]["kernel"].shape == (16, 10)


@pytest.mark.parametrize(
  "depth, parameters", [(20, 269_722), (32, 464_154), (56, 853_018), (110, 1_727_962)]
)
def test_cifar_resnets_have_the_published_size(depth, parameters):
  model = build_model("cifar_resnet", **COMMON, depth=depth)
  variables = abstract(model, np.ones((1, 32, 32, 3), np.float32))
  assert size(variables["params"]) == parameters
  # By hand: the stem, n blocks of each width, of which the first widens, and the head.
  n = (depth - 2) // 6
  convs = 9 * (3 * 16 + 2 * n * (16**2 + 32**2 + 64**2) - 16 * 32 - 32 * 64)
  assert parameters == convs + 2 * (16 + 2 * n * (16 + 32 + 64)) + 64 * 10 + 10


@pytest.mark.parametrize("filters, dropout", ARCHITECTURES)
def test_fedmd_networks_on_cifar(filters, dropout):
  model = build_model("fedmd", **COMMON, filters=filters, dropout=dropout)
  images = np.ones((1, 32, 32, 3), np.float32)
  variables = abstract(model, images)
  kernels = (3, 3) if len(filters) == 2 else (3, 2, 3)
  sides = (32, 15) if len(filters) == 2 else (32, 8, 3)  # after a layer's pooling
  widths = (3, *filters)
  layers = sum(k * k * a * b + 2 * b for k, a, b in zip(kernels, widths, filters, strict=False))
  assert size(variables["params"]) == layers + sides[-1] ** 2 * filters[-1] * 10
  assert list(variables["params"]["heads"]["main"]) == ["kernel"]
  out = jax.eval_shape(lambda v: model.apply(v, images, train=False), variables)
  shapes = {f"layer{i + 1}": (1, s, s, filters[i]) for i, s in enumerate(sides)}
  assert {name: f.shape for name, f in out.features.items()} == shapes


def test_fedmd_takes_two_or_three_layers():
  model = build_model("fedmd", **COMMON, filters=(8,), dropout=0.2)
  with pytest.raises(ConfigError, match="two or three"):
    abstract(model, np.ones((1, 32, 32, 3)))


# Outputs


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "none"])
@pytest.mark.parametrize("name", SMALL)
def test_outputs(name, norm):
  _, _, width, features = SMALL[name]
  model, images = small(name, heads=3, norm=norm, dtype="bfloat16")
  variables = abstract(model, images)
  out = jax.eval_shape(lambda v: model.apply(v, images, train=False), variables)
  assert isinstance(out, ModelOut)
  chex.assert_shape(out.embedding, (4, width))
  chex.assert_shape(out.logits, (4, 3, 10))
  assert {name: f.shape[1:] for name, f in out.features.items()} == features
  assert all(f.dtype == jnp.bfloat16 for f in out.features.values())
  wide = jax.tree.leaves((variables, out.embedding, out.logits))
  assert all(leaf.dtype == jnp.float32 for leaf in wide)
  assert ("batch_stats" in variables) == (norm == "batch")
  paths = [jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(variables["params"])]
  biases = [p for p in paths if p.endswith(("['Conv_0']['bias']", "['Dense_0']['bias']"))]
  assert bool(biases) == (norm == "none"), "a bias in front of a norm, or none where there is none"


@pytest.mark.parametrize("name", SMALL)
def test_a_step_in_training_is_finite_and_reaches_every_parameter(name):
  model, images = small(name, heads=2, project=7)
  variables = initial(model, images)
  step = trainer(model, lambda out: (out.logits**2).sum((1, 2)) + out.embedding.sum(1))
  (_, (out, changed)), grads = step(variables, images, np.ones(4, np.float32))
  chex.assert_tree_all_finite((out, changed, grads))
  for path, grad in jax.tree.leaves_with_path(grads):
    assert np.abs(grad).max() > 0, path
  before = jax.tree.leaves_with_path(variables["batch_stats"])
  after = jax.tree.leaves_with_path(changed["batch_stats"])
  for (path, a), (same_path, b) in zip(before, after, strict=True):
    assert path == same_path and np.abs(a - b).max() > 0, path


def test_remat_changes_no_name_and_recomputes_every_block():
  def rematerialised(remat):
    model, images = small("resnet", remat=remat)
    variables = abstract(model, images)
    text = str(trainer(model).trace(variables, images, np.ones(4, np.float32)).jaxpr)
    return variables, len(re.findall(r"\b(?:checkpoint|remat\d?)\[", text))

  (plain, none), (same, blocks) = rematerialised(False), rematerialised(True)
  chex.assert_trees_all_equal(plain, same)
  assert (none, blocks) == (0, 8)


@pytest.mark.parametrize(
  "name, arguments, image, convolutions",
  usually(
    {"cifar_resnet"},
    [
      # stem, one for all of stage 1 (2 a block), then 3 blocks: one that halves, one for two
      ("cifar_resnet", dict(depth=20), (4, 4, 3), (19, 1 + 2 + 4 + 4)),
      ("resnet", RESNET, (8, 8, 3), (20, 1 + 2 + 5 + 5 + 5)),
      # 6 bottlenecks a stage of 3 convolutions, and a shortcut where the shape changes
      ("gkt_resnet:Server", dict(depth=55), (8, 8, 16), (57, 3 * (4 + 3))),
    ],
  ),
)
def test_blocks_that_are_alike_can_be_a_loop(name, arguments, image, convolutions):
  """The same tree, outputs, gradients and statistics; fewer convolutions to compile."""
  with jax.enable_x64(True):
    images = np.random.default_rng(0).normal(size=(4, *image))
    mask = np.array([1.0, 1.0, 0.0, 1.0])
    found = []
    for scan in (False, True):
      model = build_model(name, **COMMON | arguments | dict(dtype="float64", scan=scan))
      init = jax.jit(model.init, static_argnums=2, compiler_options=QUICK)
      variables = init(jax.random.key(0), images, False)
      if found:
        chex.assert_trees_all_equal(variables, found[0][0])
      text = str(jax.make_jaxpr(lambda v, model=model: model.apply(v, images, False))(variables))
      found.append((variables, trainer(model)(variables, images, mask), text))
    (_, *plain, text), (_, *looped, short) = found
    chex.assert_trees_all_close(plain, looped, rtol=1e-9, atol=1e-9)  # gradients are some 100
    count = lambda text: text.count("conv_general_dilated[")
    assert (count(text), count(short)) == convolutions
    state = ClientState(variables["params"], {"batch_stats": variables["batch_stats"]}, None, None)
    flops = lambda model: forward_flops(model, state, image, "float64")
    assert flops(model) == flops(model.clone(scan=False))


def test_flops_do_not_depend_on_how_convolutions_are_written():
  """One 3 x 3 convolution of 4 x 4 pixels sees 10 x 10 pixels that are not padding."""
  arguments = COMMON | dict(norm="none", widths=(8,), stride=1)
  shape, found = (4, 4, 1), []
  for lowering in ("direct", "split", "matmul"):
    model = build_model("cnn", **arguments, conv=lowering)
    images = jnp.zeros((1, *shape))
    state = ClientState(abstract(model, images)["params"], {}, None, None)
    found.append(forward_flops(model, state, shape, "float32"))
  assert found[0] == found[1] == found[2]
  products = 2 * 10 * 10 * 8 + 2 * 8 * COMMON["classes"] * COMMON["heads"]
  assert products <= found[0] < 1.5 * products  # biases, activations and pooling beside them


def test_a_cnns_first_layer_may_look_at_every_second_pixel():
  plain, images = small("cnn")
  out = lambda model: jax.eval_shape(
    lambda v: model.apply(v, images, train=False), abstract(model, images)
  )
  shapes = {name: x.shape[1:] for name, x in out(plain.clone(stride=2)).features.items()}
  assert shapes == dict(layer1=(4, 4, 8), layer2=(2, 2, 16))
  assert jax.tree.map(jnp.shape, abstract(plain.clone(stride=2), images)) == jax.tree.map(
    jnp.shape, abstract(plain, images)
  )


@pytest.mark.parametrize("name", ["cnn", "fedmd"])
def test_masked_examples_change_nothing(name):
  model, images = small(name)
  variables, step = initial(model, images), trainer(model)
  other = images.copy()
  other[2:] = 100
  half = np.float32([1, 1, 0, 0])
  (loss, (out, stats)), grads = step(variables, images, half)
  (other_loss, (other_out, other_stats)), other_grads = step(variables, other, half)
  chex.assert_trees_all_equal((loss, stats, grads), (other_loss, other_stats, other_grads))
  np.testing.assert_array_equal(out.logits[:2], other_out.logits[:2])
  (all_of_them, _), _ = step(variables, images, np.ones(4, np.float32))
  assert abs(all_of_them - loss) > 1e-3


def test_float64_computes_in_float64():
  with jax.enable_x64(True):
    model, images = small("cnn", dtype="float64")
    variables = abstract(model, images)
    out = jax.eval_shape(lambda v: model.apply(v, images, train=False), variables)
  assert {leaf.dtype for leaf in jax.tree.leaves((variables, out))} == {np.dtype("float64")}


def test_bfloat16_is_near_float32():
  model, images = small("cnn")
  variables = initial(model, images)
  narrow, _ = small("cnn", dtype="bfloat16")
  apply = lambda m: jax.jit(functools.partial(m.apply, train=False))(variables, images)
  exact, rounded = apply(model), apply(narrow)
  error = np.abs(exact.logits - rounded.logits).max()
  assert 0 < error < 0.03 * np.abs(exact.logits).max()


def test_pad_shortcut_takes_every_second_pixel_and_adds_empty_channels():
  x = np.arange(1.0, 10.0).reshape(1, 3, 3, 1)
  y = pad_shortcut(x, 3, 2)
  np.testing.assert_array_equal(y[0, ..., 0], [[1, 3], [7, 9]])
  np.testing.assert_array_equal(y[..., 1:], np.zeros((1, 2, 2, 2)))


# Heads


def test_head_names():
  assert head_names(1) == ("main",)
  assert head_names(3) == ("main", "aux1", "aux2")


def test_each_head_reads_the_unprojected_embedding():
  xi = np.float32([[1, 2]])
  params = {
    "main": {"kernel": np.float32([[1, 0], [0, 1]]), "bias": np.float32([0, 5])},
    "aux1": {"kernel": np.float32([[0, 1], [1, 0]]), "bias": np.float32([0, 0])},
    "project": {"kernel": np.float32([[1, 1, 0], [0, 1, 1]])},
  }
  embedding, logits = Heads(2, 2, "float32", 3).apply({"params": params}, xi)
  np.testing.assert_array_equal(logits, [[[1, 7], [2, 1]]])
  np.testing.assert_array_equal(embedding, [[1, 3, 2]])


@pytest.mark.parametrize("name", ["cnn", "resnet"])
@pytest.mark.parametrize("project", [0, 5])
def test_what_the_heads_read_is_not_the_projection(name, project):
  hidden = {"hidden": 12} if name == "resnet" else {}
  model, images = small(name, project=project, **hidden)
  variables = initial(model, images)
  assert set(variables) == {"params", "batch_stats"}
  client = ClientState(variables["params"], {"batch_stats": variables["batch_stats"]}, None, None)
  read, out = heads_input(model, client, images)
  main = variables["params"]["heads"]["main"]
  expected = np.asarray(read) @ main["kernel"] + main["bias"]
  np.testing.assert_allclose(out.logits[:, 0], expected, rtol=1e-4, atol=1e-5)
  assert (out.embedding.shape == read.shape) == (project == 0)


@pytest.mark.parametrize("project, added", [(0, 0), (16, 0), (5, 16 * 5)])
def test_projection_has_parameters_only_where_widths_differ(project, added):
  plain, images = small("cnn")
  model, _ = small("cnn", project=project)
  variables = abstract(model, images)
  assert size(variables["params"]) == size(abstract(plain, images)["params"]) + added
  out = jax.eval_shape(lambda v: model.apply(v, images, train=False), variables)
  chex.assert_shape(out.embedding, (4, project or 16))


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_initial_values_do_not_depend_on_the_number_of_heads(name):
  one = initial(*small(name))["params"]
  four = initial(*small(name, heads=4, project=5))["params"]
  heads = four.pop("heads")
  chex.assert_trees_all_equal(one.pop("heads"), {"main": heads["main"]})
  chex.assert_trees_all_equal(one, four)
  kernels = [heads[name]["kernel"] for name in head_names(4)]
  assert len(np.unique(np.stack(kernels).reshape(4, -1), axis=0)) == 4
