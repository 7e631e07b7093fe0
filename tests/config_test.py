"""Configs: found by name, crossed by words, strict in their keys, compared by variants."""

import re

import pytest

from kdjax import api, checks, config
from kdjax.configs import common, mhd_digits
from kdjax.sweep import grid
from kdjax.types import ConfigError
from kdjax.variants import variants


def digits(**changes):
  return api.get_config("mhd_digits", **changes)


def test_a_config_is_found_by_name_by_path_and_with_words(tmp_path):
  assert config.plain(config.read_config("mhd_digits")) == config.plain(mhd_digits.get_config())
  (tmp_path / "seven.py").write_text(
    "from kdjax.configs import common, mhd_digits\n"
    "def get_config(words=''):\n"
    "  c = mhd_digits.get_config()\n"
    "  c.seed = 7\n"
    "  return common.crossed(c, words)\n"
  )
  found = config.read_config(f"{tmp_path / 'seven.py'}:fedavg,graph=cycle")
  assert (found.seed, found.algorithm, found.graph.kind) == (7, "fedavg", "cycle")


@pytest.mark.parametrize(
  "name, hint",
  [
    ("mhd_digit", "did you mean mhd_digits"),
    ("no/such.py", "an existing file"),
    ("mhd_digits:fedavgg", "none of the baselines supervised, fedavg, gossip, kd, separate"),
    ("mhd_digits:network=edge", "graph=KIND"),
    ("fedgkt_digits:supervised,network=small", "network=edge, network=full"),
  ],
)
def test_a_name_that_means_nothing_is_refused_with_what_there_is(name, hint):
  with pytest.raises(ConfigError, match=f"^--config = .*{hint}"):
    config.read_config(name)


def test_a_file_without_its_ending_is_named_with_it(tmp_path):
  (tmp_path / "proto_digits.py").touch()
  name = str(tmp_path / "proto_digits")
  for words in ("", ":fedavg"):
    with pytest.raises(ConfigError, match=re.escape(f": write {name}.py{words}, which is a")):
      config.read_config(name + words)


def test_a_baseline_in_place_of_the_method():
  c = config.read_config("mhd_digits:supervised")
  assert (c.algorithm, c.partition, c.compare) == ("separate", "equal", ())
  assert [n for n, *_ in c.clients] == [1]
  c = config.read_config("fedgkt_digits:supervised,network=edge")
  front = ((8, 2), (8, 2), (4, 1))
  assert c.clients == ((1, "split_cnn:Edge", {"front": front, "widths": (8,)}),)


def test_a_hyper_parameter_of_several_types_takes_each_from_the_command_line():
  """FedGKT's server_epochs: int | tuple; and what else is no number of one type."""
  read = lambda *flags: grid.read_config("fedgkt_digits", [f"--config.{flag}" for flag in flags])
  assert read()["algo"]["server_epochs"] == 2
  assert read("algo.server_epochs=7")["algo"]["server_epochs"] == 7
  schedule = "((5,2),(3,1))"
  flag = f"algo.server_epochs={schedule}"
  assert read(flag)["algo"]["server_epochs"] == [[5, 2], [3, 1]]
  words = [f"--config.{flag}", "--config.holdout=(5,3)"]
  config.check_flags(config.read_config("fedgkt_digits"), words)
  with pytest.raises(ConfigError, match="^algo.server_batch = '1,2': must be a whole number"):
    config.check_flags(config.read_config("fedgkt_digits"), ["--config.algo.server_batch=1,2"])


WRONG = [
  (dict(skw=0.0), "skw", "did you mean skew"),
  (dict(mesh=dict(mpa=3)), "mesh.mpa", "did you mean map"),
  (dict(graph=dict(kind="cycle", islands=2)), "graph.islands", "did you mean island"),
  (dict(steps=2.5), "steps", "a whole number"),
  (dict(batch=True), "batch", "a whole number"),
  (dict(skew="large"), "skew", "a number"),
  (dict(source=3), "source", "text"),
  (dict(counts=40), "counts", "a tuple"),
  (dict(optim=3), "optim", "a group"),
  (dict(public_reuse=1), "public_reuse", "True or False"),
  (dict(holdout=2.5), "holdout", "a number n"),
  (dict(holdout=(5, 0)), "holdout", r"or two \(n, m\) above 0"),
  (dict(holdout=(5, 5, 5)), "holdout", "or two"),
  (dict(holdout={}), "holdout", "or two"),
]


@pytest.mark.parametrize("changes, key, hint", WRONG, ids=[k for _, k, _ in WRONG])
def test_a_key_or_type_that_the_schema_lacks_is_refused_wherever_it_was_set(changes, key, hint):
  c = common.base()
  with c.ignore_type():
    for name, value in changes.items():
      c[name] = value  # as a config file may
  with pytest.raises(ConfigError, match=f"^{re.escape(key)} = .*{hint}"):
    checks.validate(config.plain(c))


def test_whole_numbers_are_numbers_and_infinity_is_one():
  c = common.base()
  c.clients, c.steps = ((1, "mlp", {}),), 1
  c.source_info.image = (1, 1, 1)
  for value in (3, 2.5, float("inf")):
    c.skew = float(value)
    checks.validate(config.plain(c) | {"skew": value if value == 3 else config.plain(c)["skew"]})


def test_bare_names_and_named_variants():
  c = digits(compare=("separate", "fedavg"))
  found = variants(c)
  assert [v.algorithm for v in found.values()] == ["separate", "fedavg"]
  own = {"local_steps": 20, "local_epochs": 0, "momentum": "keep"}
  assert found["fedavg"].algo.to_dict() == own
  assert all(v.compare == () for v in found.values())
  compare = {
    "two teachers": dict(algo=dict(teachers=2)),
    "separate": {},
    "u = 5": dict(algorithm="fedavg", algo=dict(local_steps=5), optim=dict(lr=0.5)),
    "on a cycle": dict(graph=dict(kind="cycle"), steps=100),
  }
  two, alone, often, cycle = variants(digits(compare=compare)).values()
  assert (two.algorithm, two.algo.teachers, two.algo.aux_heads) == ("mhd", 2, 3)
  assert (alone.algorithm, alone.algo.to_dict()) == ("separate", {})
  assert often.algo.to_dict() == own | {"local_steps": 5}
  assert (often.optim.lr, often.optim.momentum) == (0.5, 0.9)  # a part goes over the config's
  assert (cycle.graph.kind, cycle.graph.island, cycle.steps) == ("cycle", 2, 100)
  assert c.algo.teachers == 1  # the config itself stays as it is


def test_a_part_of_a_closed_group_goes_over_what_is_there():
  c = api.get_config("mhd_digits", graph={"kind": "cycle"})
  assert c.graph.to_dict() == api.get_config("mhd_digits").graph.to_dict() | {"kind": "cycle"}
  c = api.get_config("mhd_digits", optim=dict(name="adam"))  # an open one is as given
  assert c.optim.to_dict() == dict(name="adam")


def test_a_name_with_a_dot_is_refused_where_it_is_set_and_where_a_config_is_copied():
  with pytest.raises(ConfigError, match="^evals = 'my.package:norms': names have no dots"):
    api.get_config("mhd_digits", evals={"my.package:norms": dict(every=2)})
  c = mhd_digits.get_config()
  with c.unlocked(), c.ignore_type():
    c.compare = {"x": {"algo.teachers": 2}}  # as a config's file may
  with pytest.raises(ConfigError, match="^compare.x = 'algo.teachers': names have no dots"):
    api.build(c)


def test_a_change_goes_over_what_the_baseline_declares():
  """fedgkt_cifar10's FedAvg has an optimiser of its own; hostile_digits's `fresh` is MHD."""
  c = api.get_config("fedgkt_cifar10", compare={"fedavg": dict(optim=dict(lr=0.5))})
  own = c.baselines.fedavg.optim.to_dict()
  assert own != c.optim.to_dict()
  assert variants(c)["fedavg"].optim.to_dict() == own | {"lr": 0.5}
  c = api.get_config("hostile_digits", compare={"fresh": dict(algo=dict(teachers=1))})
  fresh = variants(c)["fresh"]
  assert fresh.algorithm == "mhd"
  assert fresh.algo.to_dict() == c.baselines.fresh.algo.to_dict() | {"teachers": 1}


REFUSED = [
  ("separate,fedavg", "compare", re.escape("('separate', 'fedavg')")),
  (("rumour",), "compare", "is not a baseline: one of fedavg, gossip, kd, separate"),
  (3, "compare", "a tuple of names"),
  ({"/up": dict(steps=1)}, "compare", "names become folders"),
  ({"other split": dict(skew=0.0)}, "compare.other split.skew", "one split"),
  ({"seed": dict(seed=1)}, "compare.seed.seed", "one split"),
  ({"supervised": dict(clients=((1, "mlp", {}),))}, "compare.supervised", "who holds what"),
  ({"x": dict(stepz=1)}, "compare.x.stepz", "did you mean steps"),
  ({"x": 3}, "compare.x", "a dict"),
  ({"good": dict(steps=3), "x": {"algo.teachers": 2}}, "compare.x", "no dots"),
  ({"lr=0.5": dict(steps=3)}, "compare", "no dots"),
  ({"x": dict(algo=5)}, "compare.x.algo", "a group of keys"),
  ({"x": dict(optim=None)}, "compare.x.optim", "a group of keys"),
  ({"x": dict(steps=dict(a=1))}, "compare.x.steps", "a whole number"),
  ({"x": dict(steps=-1)}, "compare.x.steps", "must not be negative"),
  ({"x": dict(clients=5)}, "compare.x.clients", "a tuple"),
  ({"x": dict(clients=(("a", "mlp", {}),))}, "compare.x.clients", "each entry is"),
  ({"pool": dict(steps=1)}, "compare", "the run's own"),
  ({"Lock": dict(steps=1)}, "compare", "the run's own"),
]


@pytest.mark.parametrize("compare, key, hint", REFUSED, ids=[str(c) for c, _, _ in REFUSED])
def test_what_cannot_be_compared_is_refused(compare, key, hint):
  with pytest.raises(ConfigError, match=f"^{re.escape(key)} = .*{hint}"):
    variants(digits(compare=compare))
