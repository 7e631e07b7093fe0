"""From runs to verdicts, and the command line; runs are written by hand but for one."""

import jax
import numpy as np
import pytest
from helpers import FIVE_SMALL
from toy_paper import CLAIM, PAPER, QUICK, A, B, write_run

from kdjax.core import files
from kdjax.ending import STOPPED
from kdjax.reproduce import cli, judging, numbers, record, runs, work
from kdjax.reproduce.claims import LAST_HEAD, Control, Difference, Quantity, Task
from kdjax.reproduce.verdict import CONFIRMED, NOT_RUN, NOT_TESTABLE, REFUTED
from kdjax.sweep import cli as sweep_cli
from kdjax.training import lock
from kdjax.types import ConfigError

TRAINED = QUICK | {"clients": FIVE_SMALL}  # where runs are not written by hand


def judged(asked):
  return judging.judge(asked, PAPER, CLAIM, PAPER.task("t"))


def test_numbers_are_means_over_clients_of_each_seed(asked):
  write_run(asked, "a", (0.5, 0.6, 0.7, 0.8, 0.9))
  found = numbers.results(runs.runs(asked, PAPER, PAPER.task("t"), "a"))
  np.testing.assert_allclose(numbers.values(A, found), [50, 60, 70, 80, 90])
  only = numbers.values(A._replace(clients=(1,)), found)
  np.testing.assert_allclose(only, [50.5, 60.5, 70.5, 80.5, 90.5])
  np.testing.assert_allclose(numbers.values(A._replace(head=LAST_HEAD), found), [50] * 5)  # aux1
  apart = numbers.values(A._replace(spread=True), found)
  np.testing.assert_allclose(apart, [0.5 * 2**0.5] * 5)  # of two clients, half a point off each
  far = Quantity("a", metric="accuracy_by_distance", distance=2)
  np.testing.assert_allclose(numbers.values(far, found), [25, 26, 27, 28, 29])
  np.testing.assert_allclose(numbers.values(Quantity("a", metric="drift"), found), [25] * 5)
  assert [result["bytes_sent"] for result in found] == [100.0] * 5  # a seed's share
  with pytest.raises(ConfigError, match="nonsense"):
    numbers.values(Quantity("a", metric="nonsense"), found)


def test_clients_without_a_number_are_left_out_as_in_the_closing_table():
  result = {"private_accuracy": {"main": [0.5, None, 0.7, 0.9]}}  # as summary.json has it
  private = Quantity("a", metric="private_accuracy")
  assert numbers.value(private, result) == pytest.approx(0.7)
  assert numbers.value(private._replace(clients=(1, 2)), result) == pytest.approx(0.7)
  assert numbers.value(private._replace(spread=True), result) == pytest.approx(0.2)
  for nobody in (private._replace(clients=(1,)), private._replace(clients=(2,), spread=True)):
    with pytest.raises(ConfigError, match="private accuracy, client"):
      numbers.value(nobody, result)


def test_nothing_is_judged_before_the_control_has_run(asked):
  write_run(asked, "a", (0.9,) * 5)
  write_run(asked, "b", (0.5,) * 5)
  assert judged(asked).word == NOT_RUN and "control" in judged(asked).note
  write_run(asked, "frozen", (0.1,) * 5)
  assert judged(asked).word == CONFIRMED


def test_where_the_control_fails_a_claim_is_not_testable_and_its_arms_do_not_train(asked):
  write_run(asked, "b", (0.5, 0.6, 0.5, 0.6, 0.5))
  write_run(asked, "frozen", (0.5, 0.6, 0.5, 0.6, 0.5))
  found = judged(asked)
  assert found.word == NOT_TESTABLE
  assert [row.kind for row in found.rows] == ["training matters"]
  chosen = [work.Chosen(PAPER, (CLAIM,), ())]
  assert {run.point.folder.parent.name for run in work.in_order(asked, chosen)} == {"b", "frozen"}


def test_controls_come_first_and_then_what_they_allow(asked):
  chosen = [work.Chosen(PAPER, (CLAIM,), ())]
  order = []
  for run in work.in_order(asked, chosen):
    arm = run.point.folder.parent.name
    if arm not in order:
      order.append(arm)
      write_run(asked, arm, {"a": (0.9,) * 5, "b": (0.5,) * 5, "frozen": (0.1,) * 5}[arm])
  assert order == ["b", "frozen", "a"]


def test_a_verdict_tells_its_numbers_and_why(asked):
  write_run(asked, "a", (0.5, 0.61, 0.7, 0.8, 0.9))
  write_run(asked, "b", (0.6, 0.7, 0.8, 0.9, 0.95))
  write_run(asked, "frozen", (0.1,) * 5)
  found = judged(asked)
  assert (found.word, found.note) == (REFUTED, "Because of this.")
  claim = found.rows[1]
  assert claim.left.paper == 54.5 and claim.found.mean == pytest.approx(-8.8)
  one = record.as_record(found, "tiny")
  assert record.side(one["rows"][1]["left"]) == "a, main: 70.2 ± 15.7 (paper 54.5)"
  assert "-8.8 [" in record.difference(one["rows"][1])


def test_what_stands_in_a_folder_must_be_the_experiment_that_is_declared(asked):
  write_run(asked, "a", (0.9,) * 5)
  (run,) = runs.runs(asked, PAPER, PAPER.task("t"), "a")
  path = run.point.folder / "config.json"
  old = files.read_json(path)
  old["config"]["steps"] = 30
  files.write_json(path, old)
  with pytest.raises(ConfigError, match="was trained with 30"):
    numbers.results([run])
  old["config"] |= {"steps": 20, "batch": 7}
  files.write_json(path, old)
  with pytest.raises(ConfigError, match="was trained with 7"):
    numbers.results([run])


def test_more_seeds_are_further_runs(asked):
  found = runs.runs(asked._replace(seeds=12), PAPER, PAPER.task("t"), "a")
  assert [run.point.folder.name for run in found] == ["seeds_0-5", "seeds_6-11"]
  assert [run.point.config["seed"] for run in found] == [0, 6]


def test_what_has_not_run_here_takes_nothing_s_place(tmp_path):
  one = {"name": "a.b", "size": "tiny", "task": "t", "verdict": CONFIRMED}
  record.write(tmp_path / "r.json", [one], [])
  other = one | {"task": "u", "verdict": NOT_RUN}
  again = record.write(tmp_path / "r.json", [one | {"verdict": NOT_RUN}, other], [])
  assert again["claims"] == [one, other]
  assert record.write(tmp_path / "r.json", [one | {"verdict": REFUTED}], [])["claims"][0] != one


@pytest.mark.parametrize(
  "words, key",
  [
    (["toys"], "NAME"),
    (["toy.nothing"], "NAME"),
    (["toy", "--seeds=7", "--workdir=x"], "--seeds"),
    (["toy"], "--workdir"),
    (["toy", "--workdir=x", "--data=/nowhere/at/all"], "--data"),
  ],
)
def test_a_command_that_cannot_work_is_refused_by_its_key(words, key, toy):
  with pytest.raises(ConfigError) as error:
    cli.reproduce_cli(words)
  assert error.value.key == key and error.value.hint


def test_the_list_names_claims_controls_and_costs(toy, capsys):
  assert cli.reproduce_cli(["--list"]) == 0
  said = capsys.readouterr().out
  for word in (
    "toy.gain: Table 1",
    "A is better.",
    "toy.curve",
    "tiny 0 (t)",
    "mhd_digits, steps=20",
  ):
    assert word in said
  assert "claim    [a, main] - [b, main] > 2\n" in said
  assert "only if  training matters: [b, main] - [frozen, main] > 3\n" in said
  assert "arm  frozen  :separate, optim.lr=0.0\n" in said


def test_the_list_is_of_what_is_named(toy, capsys):
  assert cli.reproduce_cli(["--list", "toy.curve"]) == 0
  said = capsys.readouterr().out
  assert "toy.curve" in said and "A (Fig. 1)" in said
  assert "toy.gain" not in said and "frozen" not in said


def test_claims_are_trained_judged_and_taken_as_they_are_the_next_time(asked, toy, monkeypatch):
  shown, update = [], work.Progress.update
  seen = lambda bar, step, **numbers: (shown.append(step), update(bar, step, **numbers))
  monkeypatch.setattr(work.Progress, "update", seen)
  above_zero = Difference(B, -1.0, above=0.0)
  claim = CLAIM._replace(differences=(above_zero,), controls=(Control("one", above_zero),))
  paper = PAPER._replace(tasks=(Task("t", "mhd_digits", 0.1, TRAINED),), claims=(claim,))
  chosen = [work.Chosen(paper, (claim,), ())]
  assert work.do(asked, chosen, minutes=0) == 0
  assert judging.judge(asked, paper, claim, paper.task("t")).word == CONFIRMED
  logs = {path: path.stat().st_mtime_ns for path in asked.workdir.rglob("log.txt")}
  assert len(logs) == 1
  assert len(shown) > 1 and shown == sorted(shown)  # a run is not counted twice as it ends
  assert work.do(asked, chosen, minutes=0) == 0
  assert {path: path.stat().st_mtime_ns for path in asked.workdir.rglob("log.txt")} == logs


def test_a_second_command_in_the_same_folder_is_turned_away_and_may_look(asked, toy, capsys):
  """It called the first one's running run failed, and both wrote one log."""
  line = ["toy", f"--workdir={asked.workdir}"]
  with lock.held_for_runs(asked.workdir):
    with pytest.raises(ConfigError, match="is being written by process .*lock is its lock"):
      cli.reproduce_cli(line)
    assert [path.name for path in asked.workdir.iterdir()] == ["lock"]
    assert cli.reproduce_cli([*line, "--report-only"]) == 0
  assert "not run" in capsys.readouterr().out


def test_a_run_that_alone_had_the_signal_leaves_the_command_unfinished(asked, monkeypatch, capsys):
  """It was done, with exit code 0, and the rest had not been trained."""
  monkeypatch.setattr(sweep_cli, "run_point", lambda *_: STOPPED)
  assert work.do(asked, [work.Chosen(PAPER, (CLAIM,), ())], minutes=0) == STOPPED
  assert "Stopped; the same command goes on." in capsys.readouterr().err


def test_the_devices_are_left_to_the_runs(asked, toy, monkeypatch):
  for name in ("devices", "process_count", "process_index"):
    monkeypatch.setattr(jax, name, lambda: pytest.fail("takes the devices"))
  monkeypatch.setattr(sweep_cli, "run_point", lambda *_: STOPPED)
  work.do(asked, [work.Chosen(PAPER, (CLAIM,), ())], minutes=0)
  assert not (asked.workdir / "lock").exists()


def test_after_the_minutes_the_run_is_saved_and_the_rest_is_left(asked):
  long = PAPER._replace(tasks=(Task("t", "mhd_digits", 0.1, TRAINED | {"steps": 10**6}),))
  chosen = [work.Chosen(long, (CLAIM,), ())]
  assert work.do(asked, chosen, minutes=10 / 60) == 42
  assert len(list(asked.workdir.rglob("log.txt"))) == 1
