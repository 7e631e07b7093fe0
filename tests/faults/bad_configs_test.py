"""Wrong configs end with exit 2, by name, before anything is written; corrected ones then run."""

import contextlib
import time
from math import inf, nan

import hostile
import jax
import numpy as np
import pytest
from campaign import HELD
from commands import Commands
from helpers import FIVE_SMALL

from kdjax import api, checks, config
from kdjax.training.stepper import Stepper
from kdjax.types import ConfigError

SECONDS = 5  # of this process: others share the machine


def outcome(case, folder):
  """'held', or what happened."""
  begin = time.process_time()
  try:
    built = api.experiments(hostile.config(case), devices=jax.devices()[:1])
  except ConfigError as error:
    said = str(error)
    if not error.hint or "\n" in said or error.key not in said:
      return f"{case}: not one line with key and hint: {said!r}"
    if not (related(case.key, error.key) or (not case.certain)):
      return f"{case}: blames another key: {said}"
  except Exception as error:
    return f"{case}: {type(error).__name__}: {str(error)[:200]}"
  else:
    if case.certain:
      return f"{case}: accepted"
    return outcome_of_a_step(case, built[""])
  took = time.process_time() - begin
  if took > SECONDS:
    return f"{case}: {took:.1f} s"
  return HELD if not list(folder.iterdir()) else f"{case}: wrote {list(folder.iterdir())}"


def outcome_of_a_step(case, experiment):
  try:
    Stepper(experiment).step(Stepper(experiment).init())
  except Exception as error:
    return f"{case}: accepted, then {type(error).__name__}: {str(error)[:200]}"
  return HELD


def related(drawn, blamed):
  """Whether one is the other, or a key of its group."""
  return f"{drawn}.".startswith(f"{blamed}.") or f"{blamed}.".startswith(f"{drawn}.")


def test_a_config_with_one_hostile_value_is_refused_by_its_key(campaign, tmp_path, monkeypatch):
  folder = tmp_path / "here"
  folder.mkdir()
  monkeypatch.chdir(folder)
  attempt = lambda number: outcome(hostile.draw(number), folder)
  campaign.run("configs", campaign.trials(90, 1000), attempt)


def test_every_key_is_drawn():
  """The draws reach all keys and all methods."""
  drawn = [hostile.draw(number) for number in range(20_000)]
  for base in hostile.BASES:
    assert {case.key for case in drawn if case.base == base} == set(hostile.fields(base)), base


FLAGS = (
  "algo.nu_aux=nan",
  "optim.lr=inf",
  "algo.pool_size=1000000000",
  "start.workdir=nowhere",
  "algo.aux_heads=100000",
  "normalise.std=(float,)",
  "public_batch=1000000000",
  "batch=-1",
  "batch=many",
  "graph.kind=ring",
  "optim.schedule=never",
  "faults.client=ignore",
  "faults.images=2.0",
  "faults.saves=0",
  "source=digits?",
  "skew=nan",
  "labels=11",
  "partition=none",
  "mesh.map=all",
  "no_such_key=1",
)


def test_the_command_line_refuses_in_one_line_and_the_corrected_command_runs(campaign, tmp_path):
  small = ["--config=mhd_digits", "--config.replicas=1", "--config.steps=2", "--config.compare=()"]
  small += [f"--config.clients={FIVE_SMALL!r}"]

  def attempt(number):
    workdir, flag = tmp_path / str(number) / "run", FLAGS[number]
    command = (*small, f"--workdir={workdir}")
    code, _, said = commands.run(*command, f"--config.{flag}")
    lines = said.strip().splitlines()
    if code != 2 or "Traceback" in said or len(lines) != 1:
      return f"{flag}: exit {code}: {said[-500:]}"
    if flag.partition("=")[0].split(".")[-1] not in lines[0]:
      return f"{flag}: names another key: {lines[0]}"
    if workdir.parent.exists():
      return f"{flag}: left {list(workdir.parent.iterdir())}"
    if number % 10:
      return HELD
    code, _, said = commands.run(*command)
    return HELD if code == 0 else f"{flag}, corrected: {said[-500:]}"

  with contextlib.closing(Commands(JAX_PLATFORMS="cpu")) as commands:
    campaign.run("commands", campaign.trials(2, len(FLAGS)), attempt)


NOWHERE = "/nowhere/at/all"
REVIEW = [  # (base, changes, the key that is blamed)
  ("mhd_digits", {"normalise": {"mean": 0.5, "std": 0.5}}, "normalise.mean"),
  ("mhd_digits", {"normalise.std": (nan,)}, "normalise.std"),
  ("mhd_digits", {"partition": "dirichlet", "alpha": inf}, "alpha"),
  ("mhd_digits", {"optim.lr": inf}, "optim.lr"),
  ("mhd_digits", {"optim.clip": inf}, "optim.clip"),
  ("mhd_digits", {"optim.weight_decay": inf}, "optim.weight_decay"),
  ("mhd_digits", {"algo.nu_aux": inf}, "algo.nu_aux"),
  ("fedgkt_digits", {"algo.alpha": inf}, "algo.alpha"),
  ("pairwise_digits", {"algo.alpha": inf}, "algo.alpha"),
  ("mhd_digits", {"source": "json:loads"}, "source"),
  ("mhd_digits", {"algorithm": "os.path"}, "algorithm"),
  ("mhd_digits", {"augment": {}}, "augment.kind"),
  ("mhd_digits", {"overlay": {"share": 0.5}}, "overlay.share"),  # of nobody
  ("mhd_digits", {"compare": {"separate": {"steps": "a"}}}, "compare.separate.steps"),
  ("mhd_digits", {"normalise.mean": ("a",)}, "normalise.mean"),
  ("mhd_digits", {"normalise.mean": (nan,)}, "normalise.mean"),
  ("mhd_digits", {"start.workdir": NOWHERE}, "start.workdir"),
  ("mhd_digits", {"start.workdir": NOWHERE, "start.client": -1}, "start.client"),
  ("mhd_digits", {"steps": 10**12}, "steps"),
  ("mhd_digits", {"replicas": 10**6}, "replicas"),
  ("mhd_digits", {"algo.aux_heads": 10**5}, "algo.aux_heads"),
  ("fedgkt_digits", {"rounds": 10**9}, "rounds"),
  ("mhd_digits", {"public_batch": 10**9}, "public_batch"),
  ("mhd_digits", {"algo.pool_size": 10**9}, "algo.pool_size"),
  ("async_edge_digits", {"algo.memory": 10**9}, "algo.memory"),
  ("mhd_digits", {"public_source": "foo"}, "public_source"),
  ("mhd_digits", {"compare": {"separate": {"rounds": -1}}}, "compare.separate.rounds"),
  ("mhd_digits", {"model": {}}, "model.norm"),
  ("mhd_digits", {"algo.nu_aux": nan}, "algo.nu_aux"),
  ("mhd_digits", {"algo.nu_emb": nan}, "algo.nu_emb"),
  ("mhd_digits", {"compare": {"kd": {"algo": {"alpha": nan}}}}, "compare.kd.algo.alpha"),
  ("async_edge_digits", {"algo.flag_above": nan}, "algo.flag_above"),
  ("pairwise_digits", {"algo.noise": nan}, "algo.noise"),
  ("pairwise_digits", {"algo.alpha": nan}, "algo.alpha"),
  ("async_edge_digits", {"algo.arrivals": ((1, 99),)}, "algo.arrivals"),
  ("mhd_digits", {"compare": {"nonsense": 5}}, "compare.nonsense"),
  ("mhd_digits", {"start.part": "foo"}, "start.part"),
  ("mhd_digits", {"source_resident_bytes": -1}, "source_resident_bytes"),
  ("fedgkt_digits", {"algo.server_batch": 10**9}, "algo.server_batch"),
  ("pairwise_digits", {"algo.layers": ("heads/main",) * 2}, "algo.layers"),
  ("mhd_digits", {"graph.kind": "edges"}, "graph.edges"),
  ("pairwise_digits", {"algo.new_class_below": -1}, "algo.new_class_below"),
  ("mhd_digits", {"primary_labels": ((), (), ())}, "primary_labels"),
  ("mhd_digits", {"primary": "explicit", "primary_labels": ((),) * 5}, "primary_labels"),
  ("mhd_digits", {"optim.lr": 1000.0}, "optim.lr"),
  ("mhd_digits", {"normalise.mean": (True,)}, "normalise.mean"),
  ("mhd_digits", {"hostile.clients": ((0, 1),)}, "hostile.clients"),
]


@pytest.mark.parametrize("base, changes, key", REVIEW, ids=[str(c)[:60] for _, c, _ in REVIEW])
def test_what_was_once_accepted_or_badly_refused_is_refused_by_its_key(base, changes, key):
  begin = time.process_time()
  with pytest.raises(ConfigError) as error:
    api.experiments(api.get_config(base, **changes), devices=jax.devices()[:1])
  assert error.value.key == key and error.value.hint
  assert time.process_time() - begin < SECONDS


def test_a_share_that_leaves_nothing_public_is_named_as_it_was_given():
  changes = {"public_share": 0.0001, "compare": (), "replicas": 1}
  with pytest.raises(ConfigError, match="^public_share = 0.0001: leaves no public example"):
    api.build(api.get_config("mhd_digits", **changes))


def test_numbers_of_numpy_are_numbers():
  given = api.get_config("mhd_digits", **{"normalise.mean": tuple(np.array([0.5]))})
  checks.validate(config.plain(given))


@pytest.mark.parametrize(
  "key, value, hint",
  [
    ("normalise.mean", "data", "must be a tuple, such as ('data',)"),
    ("normalise.std", 0.25, "must be a tuple, such as (0.5,)"),
    ("start.part", "extractor", "must be a tuple, such as ()"),
    ("source_info.image", 8, "must be a tuple, such as (0, 0, 0)"),
  ],
)
def test_a_tuple_is_asked_for_by_a_tuple(key, value, hint):
  with pytest.raises(ConfigError) as error:
    checks.validate(config.plain(api.get_config("mhd_digits", **{key: value})))
  assert (error.value.key, error.value.hint) == (key, hint)


def test_a_tuple_that_is_missing_is_shown_as_one():
  whole = config.plain(api.get_config("mhd_digits"))
  del whole["normalise"]["mean"]
  with pytest.raises(ConfigError, match=r"normalise.mean = None: missing: such as \(0.5,\)$"):
    checks.validate(whole)


@pytest.mark.parametrize(
  "group, key",
  [("input", "ahead"), ("mesh", "blocks"), ("normalise", "mean"), ("start", "client")],
)
def test_a_closed_group_that_lacks_keys_is_refused_and_a_part_goes_over_what_is_there(group, key):
  whole = api.get_config("mhd_digits")
  same = api.get_config(whole, **{group: {}})
  assert same.to_dict() == whole.to_dict()
  with whole.unlocked(), whole.ignore_type():
    whole[group] = {}
  with pytest.raises(ConfigError, match=f"{group}.{key} = None: missing"):
    checks.validate(config.plain(whole))


ACCEPTED = [  # what has a meaning: facts left out, two sources of one shape, phases left out
  ("mhd_digits", {"source_info": {}, "clients": FIVE_SMALL}),
  ("mhd_digits", {"public_source": "digits", "clients": FIVE_SMALL}),
  ("async_edge_digits", {"algo.core_epochs": 0}),
  ("async_edge_digits", {"algo.edge_epochs": 0}),
]


@pytest.mark.parametrize("base, changes", ACCEPTED, ids=[str(c)[:60] for _, c in ACCEPTED])
def test_what_has_a_meaning_takes_a_step(base, changes):
  config = api.get_config(base, **{"replicas": 1, "compare": ()} | changes)
  experiment = api.experiments(config, devices=jax.devices()[:1])[""]
  stepper = Stepper(experiment)
  state, losses = stepper.step(stepper.init())
  assert losses
