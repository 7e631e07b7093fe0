"""Every config is an experiment that can be built and traced, without its data."""

import ast
import functools
import importlib
import re

import jax
import numpy as np
import pytest
from helpers import usually

from kdjax import config, experiment, plan
from kdjax.models.fedmd import ARCHITECTURES
from kdjax.training import program, schedule

NAMES = list(config.packaged())
CROSSED = [  # what were files of their own
  *(f"mhd_{d}:{m}" for d in ("digits", "fashion_mnist") for m in ("separate", "fedavg")),
  *(f"mhd_{d}:supervised" for d in ("digits", "cifar10", "imagenet", "tiny_imagenet")),
  *(f"mhd_{d}:fedavg" for d in ("cifar10", "imagenet", "tiny_imagenet")),
  *(f"pairwise_{d}:{m}" for d in ("digits", "cifar10") for m in ("kd", "gossip")),
  *(f"fedgkt_digits:{m}" for m in ("separate", "fedavg", "supervised")),
  *(f"fedgkt_{d}:supervised,network=edge" for d in ("digits", "fashion_mnist", "cifar10")),
  "fedgkt_cifar10:fedavg",
  "mhd_imagenet_topologies:graph=islands",
  *(f"mhd_imagenet_mixed:{m}" for m in ("network=resnet18", "fedavg", "separate")),
  *(f"fedmd_digits:{m}" for m in ("mhd", "separate", "supervised")),
  *(f"fedmd_cifar100:{m}" for m in ("mhd", "separate", "supervised,network=9")),
]


SMALL = ("mlp", dict(hidden=(8,), activation="tanh"))


def load(name):
  return importlib.import_module(f"kdjax.configs.{name}")


@functools.cache
def described(name):
  c = config.plain(config.read_config(name))
  return experiment.build(c, data=plan.described(c), devices=jax.devices()[:1])


# Of the others, whose programs are those of one of these, `--thorough` traces each.
TRACED = ("mhd_imagenet", "fedgkt_cifar10", "pairwise_celeba", "mhd_imagenet:supervised")
TRACED += tuple(n for n in NAMES if n.endswith(("digits", "cycle", "letter", "small", "mnist")))


@pytest.mark.parametrize("name", usually(NAMES, [n for n in NAMES + CROSSED if n not in TRACED]))
def test_every_config_builds(name):
  assert described(name).visits


@pytest.mark.parametrize("name", usually(TRACED, NAMES + CROSSED))
def test_every_config_traces(name):
  e = described(name)
  totals, before = schedule.totals(e.visits), e.shapes()
  for visit in plan.first_visits(e):
    inputs = plan.abstract_inputs(e, visit, totals[visit.number])
    arguments = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), inputs)
    after, _ = jax.eval_shape(program.jitted(e, visit.phase), before, *arguments, {})
    shapes = lambda tree: [(x.shape, x.dtype) for x in jax.tree.leaves(tree)]
    assert shapes(after) == shapes(before)


@pytest.mark.parametrize("name", NAMES)
def test_every_docstring_tells_the_command_that_runs_it(name):
  text = load(name).__doc__
  assert f"--config=configs/{name}.py" in text and "--workdir=" in text


def test_the_imagenet_experiment_is_the_papers():
  """Zhmoginov et al., Section 4.1: 8 ResNet-34 clients, 250 random primary labels, s = 100."""
  e = described("mhd_imagenet")
  assert (e.env.K, e.batches, e.env.training.batch, e.env.training.public_batch) == (
    8,
    60_000,
    512,
    512,
  )
  assert [len(p) for p in e.data.shards.primary] == [250] * 8
  assert e.env.heads == ("main", "aux1", "aux2", "aux3", "aux4")
  assert e.shapes().local[0].peer.shape == (8, 8)  # N_P = 8
  assert {v.calls for v in e.visits if v.phase.name == "train"} == {200}  # S_P
  assert e.env.task.image == (224, 224, 3)
  parameters = sum(x.size for x in jax.tree.leaves(e.env.cohorts[0].template.params))
  assert parameters == 21_797_672 + 4 * (512 + 1) * 1_000  # a ResNet-34 and four more heads


def row(title):
  """The ImageNet experiment of a row of its docstring, with the overrides that stand there."""
  (line,) = (x for x in load("mhd_imagenet").__doc__.splitlines() if x.strip().startswith(title))
  c = load("mhd_imagenet").get_config()
  for key, value in re.findall(r"--config\.(\S+)=(\S+)", line):
    c.update_from_flattened_dict({key: ast.literal_eval(value)})
  # No row is about the networks, which take most of a build.
  c.clients = ((sum(n for n, *_ in c.clients), *SMALL),)
  c = config.plain(c)
  return experiment.build(c, data=plan.described(c), devices=jax.devices()[:1])


def test_the_rows_of_table_1_are_the_papers():
  """MHD+: 180,000 steps, all of ImageNet public, the private 90 % as they are; s = 0: 3 heads."""
  own, plus, even = row("s = 0"), row("MHD+ (63.4 %)"), row("MHD+, s = 0")
  usual, few = described("mhd_imagenet"), row("less public data")
  total = 1_281_167
  assert len(usual.data.shards.public[0]) == round(0.1 * total)
  for e in (plus, even):
    np.testing.assert_array_equal(e.data.shards.public[0], np.arange(total))
    assert sum(map(len, e.data.shards.private)) == total - round(0.1 * total)
    assert e.batches == 180_000
  assert len(few.data.shards.public[0]) == 64_000
  for e in (plus, few):
    assert all(map(np.array_equal, e.data.shards.private, usual.data.shards.private))
  assert own.env.heads == ("main", "aux1", "aux2", "aux3") and own.batches == 60_000
  sizes = own.env.task.private_sizes
  assert (own.config["skew"], even.config["skew"]) == (0, 0)
  assert sizes.max() - sizes.min() < 0.02 * sizes.mean()


def test_mixed_architectures_are_section_4_5():
  """Three ResNet-18 and a ResNet-34, 500 random labels each, 240,000 steps."""
  e = described("mhd_imagenet_mixed")
  small, large = e.env.cohorts
  assert (small.ids, large.ids) == ((0, 1, 2), (3,))
  assert (small.model.depth, large.model.depth) == (18, 34)
  assert [len(p) for p in e.data.shards.primary] == [500] * 4 and e.batches == 240_000
  for words, depths in (("network=resnet18", [18]), ("fedavg", [18]), ("separate", [18, 34])):
    other = load("mhd_imagenet_mixed").get_config(words)
    assert [a["depth"] for _, _, a in other.clients] == depths
    assert sum(n for n, *_ in other.clients) == 4 and other.steps == 240_000


def test_a_long_cycle_s_clients_share_no_class_and_have_a_teacher_each():
  """Thirteen clients with two of 26 capitals each; five heads for five hops."""
  e = described("mhd_letter_cycle")
  primary = e.data.shards.primary[: e.env.K]  # of the first seed
  assert [list(labels) for labels in primary] == [[2 * i, 2 * i + 1] for i in range(13)]
  assert e.env.heads == ("main", "aux1", "aux2", "aux3", "aux4", "aux5")
  np.testing.assert_array_equal(e.env.graph.union().sum(1), [1] * 13)


def test_table_2_is_on_fedmds_networks_and_images():
  """MHD hears ten networks and sees no public label; its base has all of their private images."""
  words = ("", ":mhd", ":supervised,network=7")
  fedmd, mhd, base = (described(f"fedmd_cifar100{w}") for w in words)
  models = lambda e: [(c.model.filters, c.model.dropout) for c in e.env.cohorts]
  assert models(mhd) == models(fedmd) == list(ARCHITECTURES)
  assert models(base) == [ARCHITECTURES[6]] and base.env.K == 1
  assert (fedmd.env.task.classes, mhd.env.task.classes, base.env.task.classes) == (30, 20, 20)
  private = fedmd.data.shards.private
  assert all(map(np.array_equal, private, mhd.data.shards.private))
  assert [len(x) for x in private] == [400] * 10
  np.testing.assert_array_equal(base.data.shards.private[0], np.sort(np.concatenate(private)))


def test_fedgkts_split_is_the_papers_table():
  """He et al. 2020, Table 6: all of CIFAR-10's training set, by client and class."""
  table = np.array(load("fedgkt_cifar10").TABLE_6)
  sizes = [4497, 1314, 2745, 3302, 3347, 3654, 2859, 3366]
  sizes += [2619, 1880, 3092, 3153, 3008, 3784, 3883, 3497]
  assert table.sum(1).tolist() == sizes and table.sum(0).tolist() == [5_000] * 10
  # Its rule, `partition.dirichlet`'s: who holds 50,000 / 16 gets nothing of the classes after.
  full = table.cumsum(1)[:, :-1] >= 3_125
  assert full.any() and not table[:, 1:][full].any()


def test_supervised_training_of_either_of_fedgkts_networks():
  c = load("fedgkt_cifar10").get_config("supervised,network=edge")
  assert c.steps == 58_594 and c.optim.lr == 3e-3  # 300 passes in batches of 256
  assert c.clients == ((1, "gkt_resnet:Edge", {"depth": 8}),)
  c = load("fedgkt_digits").get_config("supervised")
  assert c.clients == ((1, "split_cnn", {"front": ((8, 2), (8, 2), (4, 1)), "widths": (32, 64)}),)


def test_a_plan_names_what_a_run_would_cost():
  c = load("mhd_digits").get_config()
  c.replicas, c.steps, c.clients = 1, 40, ((5, *SMALL),)
  text = plan.describe(c)
  norms = 2 * 8  # scale and bias
  model = 64 * 8 + norms + 4 * (8 * 10 + 10)
  assert f"{model:,} per client" in text
  sent = 2 * 5 * 4 * (model + norms)  # two refreshes of weights and statistics, nothing before
  assert f"{plan.human(sent)} ({sent / 40:,.0f} bytes a batch)" in text
  assert "train" in text and "refresh" in text


EXAMPLES = {"mhd_tiny_imagenet": (100_000, 10_000), "mhd_imagenet": (1_281_167, 50_000)}
EXAMPLES |= {"mhd_cifar10": (50_000, 10_000), "mhd_fashion_mnist": (60_000, 10_000)}
EXAMPLES |= {"mhd_cifar10_small": (50_000, 10_000), "mhd_letter": (16_000, 4_000)}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_plan_counts_the_examples_that_the_set_has(name):
  info = load(name).get_config().source_info
  assert (info.train, info.test) == EXAMPLES[name]


ALWAYS, READ = "resident on every device", "read as needed"


@pytest.mark.parametrize(
  "changes, expected",
  [
    (dict(), {"data": ALWAYS}),
    (dict(source_resident_bytes=0), {"data": ALWAYS}),  # digits are never read as needed
    (dict(source="tfds:mnist"), {"data": ALWAYS}),
    (dict(source="tfds:mnist", source_resident_bytes=1437 * 64 - 1), {"data": READ}),
    # Loading decides before it takes its few, and after it has held out the test set.
    (dict(source="tfds:mnist", limit=500, source_resident_bytes=1000 * 64), {"data": READ}),
    (dict(source="tfds:mnist", holdout=437, source_resident_bytes=1000 * 64), {"data": ALWAYS}),
    (
      dict(source="tfds:mnist", holdout=(400, 37), source_resident_bytes=1000 * 64),
      {"data": ALWAYS},
    ),
    # Each set on its own: either fits, both would not.
    (
      dict(source="folder:a", public_source="folder:b", source_resident_bytes=1437 * 64),
      {"private data": ALWAYS, "public data": ALWAYS},
    ),
    (
      dict(source="npz:a.npz", public_source="folder:b", source_resident_bytes=0),
      {"private data": ALWAYS, "public data": READ},
    ),
  ],
)
def test_a_plan_says_where_loading_keeps_the_data(changes, expected):
  c = load("mhd_digits").get_config()
  c.update(changes)
  if c.public_source:
    c.public_source_info = c.source_info
  c = config.plain(c)
  e = experiment.build(c, data=plan.described(c), devices=jax.devices()[:1])
  found = plan.stored(e)
  size = plan.human(64 * (c["limit"] or 1437 - np.sum(c["holdout"])))
  assert found == {f"{name} as uint8": f"{size}, {where}" for name, where in expected.items()}
