"""From runs to verdicts, tables, a page and documents; runs are written by hand but for one."""

import json

import numpy as np
import pytest

from kdjax.core import files
from kdjax.reproduce import cli, documents, figures, judging, numbers, record, runs, work
from kdjax.reproduce.claims import (
  LAST_HEAD,
  Arm,
  Claim,
  Control,
  Costs,
  Difference,
  Lines,
  Matrices,
  Paper,
  Quantity,
  Table,
  Task,
)
from kdjax.reproduce.runs import Asked
from kdjax.reproduce.verdict import CONFIRMED, NOT_RUN, NOT_TESTABLE, REFUTED
from kdjax.types import ConfigError

A, B, F = Quantity("a", paper=54.5), Quantity("b"), Quantity("frozen")
CLAIM = Claim(
  "gain",
  "Table 1",
  "A is better.",
  {"tiny": ("t",)},
  (Difference(A, B, above=2.0),),
  (Control("training matters", Difference(B, F, above=3.0)),),
  explained={("t", REFUTED): "Because of this."},
)
QUICK = {"steps": 20, "evals.accuracy.every": 20, "save_every": 0}
PAPER = Paper(
  "toy",
  "A toy: of 2026",
  (Task("t", "mhd_digits", 0.1, QUICK),),
  {"a": Arm(), "b": Arm(words="separate"), "frozen": Arm({"optim.lr": 0.0}, words="separate")},
  (CLAIM,),
  (
    Lines("curve", "A (Fig. 1)", ("1", "2"), "n", "%", {"a": (A, B)}, {"tiny": ("t",)}),
    Costs("cost", "B (Fig. 2)", "bytes_sent", "bytes", "%", {"a": A, "b": B}, {"tiny": ("t",)}),
    Table(
      "both", "Both (Table 2)", ("shared", ""), {"A": (A, B), "B": (B, None)}, {"tiny": ("t",)}
    ),
  ),
)


@pytest.fixture
def asked(tmp_path):
  return Asked(tmp_path, "tiny", 5, None)


def write_run(asked, arm, shared, *, clients=2):
  """A finished run with these shared accuracies, one a seed, half a point up and down by client."""
  (run,) = runs.runs(asked, PAPER, PAPER.task("t"), arm)
  run.point.folder.mkdir(parents=True)
  about = {"git": "abc", "versions": {"jax": "1"}, "device": "cpu"}
  files.write_json(run.point.folder / "config.json", {"config": run.point.config} | about)
  each = np.linspace(-0.005, 0.005, clients)
  found = [
    {
      "seed": seed,
      "label_counts": [[1, 1]] * clients,
      "shared_accuracy": {"main": (x + each).tolist(), "aux1": [0.5] * clients},
      "accuracy_by_distance": {"main": {"0": 0.9, "2": 0.25 + 0.01 * seed}},
    }
    for seed, x in enumerate(shared)
  ]
  summary = {"algorithm": "mhd", "dataset": "digits", "heads": ["main"], "bytes_sent": {"x": 500}}
  files.write_json(
    run.point.folder / "summary.json", summary | {"replicas": 5, "runs": found, "drift": 0.25}
  )
  (run.point.folder / "metrics.jsonl").touch()


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
  found = runs.runs(asked._replace(seeds=10), PAPER, PAPER.task("t"), "a")
  assert [run.point.folder.name for run in found] == ["seeds_0-4", "seeds_5-9"]
  assert [run.point.config["seed"] for run in found] == [0, 5]


@pytest.fixture
def toy(monkeypatch):
  """The only paper there is."""
  for place in (cli, documents):
    monkeypatch.setattr(place, "named", lambda: {"toy": PAPER})


def test_a_report_has_the_claims_the_tables_and_the_figures(asked, toy, capsys):
  write_run(asked, "a", (0.9, 0.8, 0.9, 0.8, 0.9))
  write_run(asked, "b", (0.5, 0.4, 0.5, 0.4, 0.5))
  write_run(asked, "frozen", (0.1,) * 5)
  line = ["toy", f"--workdir={asked.workdir}", "--report-only"]
  assert cli.reproduce_cli(line) == 0
  assert "1 confirmed" in capsys.readouterr().out
  html = (asked.workdir / "reproduce.html").read_text()
  for words in ("toy.gain", "A (Fig. 1)", "B (Fig. 2)", "Both (Table 2)", "paper 54.5", "<svg"):
    assert words in html
  assert (asked.workdir / "figures" / "toy_curve_t.png").stat().st_size > 1000
  found = json.loads((asked.workdir / "results.json").read_text())
  assert [c["verdict"] for c in found["claims"]] == [CONFIRMED]
  assert found["tables"][0]["rows"]["B"][1] is None
  assert found["claims"][0]["made"]["commit"] == "abc"


def test_documents_are_written_from_the_record(asked, toy, tmp_path):
  write_run(asked, "a", (0.9, 0.8, 0.9, 0.8, 0.9))
  write_run(asked, "b", (0.5, 0.4, 0.5, 0.4, 0.5))
  write_run(asked, "frozen", (0.1,) * 5)
  checkout = tmp_path / "checkout"
  (checkout / "docs").mkdir(parents=True)
  table = "| method | ours |\n|---|---|\n| A | not run |\n"
  readme = f"# X\n{documents.BEGIN}\n{table}{documents.END}\nrest\n"
  (checkout / "README.md").write_text(readme)
  line = ["toy", f"--workdir={asked.workdir}", "--report-only", f"--documents={checkout}"]
  assert cli.reproduce_cli(line) == 0
  page = (checkout / "docs" / "results.md").read_text()
  assert "### toy.gain" in page and "t **confirmed**" in page and "| A | 86.0 ± 5.5" in page
  text = (checkout / "README.md").read_text()
  assert text.startswith("# X\n") and text.endswith("\nrest\n") and "1 confirmed" in text
  found = files.read_json(checkout / "docs" / "results.json")
  assert documents.in_readme(text, found) == text  # once more changes nothing


def test_what_has_not_run_here_takes_nothing_s_place(tmp_path):
  one = {"name": "a.b", "size": "tiny", "task": "t", "verdict": CONFIRMED}
  record.write(tmp_path / "r.json", [one], [])
  other = one | {"task": "u", "verdict": NOT_RUN}
  again = record.write(tmp_path / "r.json", [one | {"verdict": NOT_RUN}, other], [])
  assert again["claims"] == [one, other]
  assert record.write(tmp_path / "r.json", [one | {"verdict": REFUTED}], [])["claims"][0] != one


def test_a_cost_is_found_by_its_dotted_key_and_added_up():
  result = {"bytes_sent": 3.0, "flops": {"edge": 4.0, "server": 5.0}}
  assert [figures.cost_of(key, result) for key in ("bytes_sent", "flops.edge", "flops")] == [
    3,
    4,
    9,
  ]


def test_matrices_are_those_of_the_clients_asked_for():
  counts = np.zeros((2, 2, 2))  # [K, C, C]
  counts[0], counts[1] = [[3, 1], [0, 4]], [[0, 8], [8, 0]]
  results = {"a": [{"confusion": {"main": counts.tolist()}}] * 5}
  one = Matrices("m", "", {"x": ("a", "confusion", "main")}, {}, clients=(0,))
  (axes,) = figures._matrices(one, results).axes
  np.testing.assert_allclose(axes.images[0].get_array(), [[75, 25], [0, 100]])


def test_the_readme_shows_a_method_s_number_on_each_set():
  cell = lambda mean: {"mean": mean, "spread": 1.0, "paper": None, "name": ""}
  tables = [
    {"name": documents.OURS, "task": task, "rows": {"MHD": [cell(mean)], "kd": [None]}}
    for task, mean in (("digits", 71.06), ("cifar10", 40.0))
  ]
  assert documents.best(tables) == {"MHD": "digits 71.1, CIFAR-10 40.0"}


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
  for word in ("toy.gain", "Table 1", "A is better.", "training matters", "toy.curve"):
    assert word in said


def test_claims_are_trained_judged_and_taken_as_they_are_the_next_time(asked, toy, capsys):
  above_zero = Difference(B, -1.0, above=0.0)
  claim = CLAIM._replace(differences=(above_zero,), controls=(Control("one", above_zero),))
  chosen = [work.Chosen(PAPER._replace(claims=(claim,)), (claim,), ())]
  assert work.do(asked, chosen, minutes=0) == 0
  assert judging.judge(asked, chosen[0].paper, claim, PAPER.task("t")).word == CONFIRMED
  logs = {path: path.stat().st_mtime_ns for path in asked.workdir.rglob("log.txt")}
  assert len(logs) == 1
  assert work.do(asked, chosen, minutes=0) == 0
  assert {path: path.stat().st_mtime_ns for path in asked.workdir.rglob("log.txt")} == logs


def test_after_the_minutes_the_run_is_saved_and_the_rest_is_left(asked):
  long = PAPER._replace(tasks=(Task("t", "mhd_digits", 0.1, QUICK | {"steps": 10**6}),))
  chosen = [work.Chosen(long, (CLAIM,), ())]
  assert work.do(asked, chosen, minutes=10 / 60) == 42
  assert len(list(asked.workdir.rglob("log.txt"))) == 1
