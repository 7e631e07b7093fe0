"""The closing table and the report, on run folders made by hand."""

import re

import numpy as np
import pytest

from kdjax.core import files
from kdjax.report import captions, table
from kdjax.report.page import lead, write_report
from kdjax.training import writer
from kdjax.types import ConfigError

CLASSES = 4


def result(seed, private, shared):
  """One replica's part of a summary: {head: a number per client} for both accuracies."""
  clients = len(private["main"])
  links = [[i, (i + 1) % clients] for i in range(clients)]
  return {
    "seed": seed,
    "private_accuracy": private,
    "shared_accuracy": shared,
    "ensemble_accuracy": {head: 0.75 for head in private},
    "accuracy_by_owner": {head: np.full((clients, clients), 0.5) for head in private},
    "accuracy_by_distance": {head: {"0": 0.9, "1": 0.4, "unreachable": 0.1} for head in private},
    "label_counts": np.arange(clients * CLASSES).reshape(clients, CLASSES),
    "primary_labels": [[i] for i in range(clients)],
    "edges": links,
  }


def summary(results, *, algorithm, bytes_sent):
  """A whole summary.json of one or several replicas."""
  top = {
    "algorithm": algorithm,
    "dataset": "digits",
    "seed": results[0]["seed"],
    "steps": 2000,
    "heads": ["main", "aux1"],
    "images_per_second": 1234.5,
    "compile_seconds": 3.0,
    "wall_seconds": 60.0,
    "bytes_sent": bytes_sent,
  }
  if len(results) == 1:
    return results[0] | top
  return top | {"replicas": len(results), "runs": results}


def evaluation(main, aux):
  """The numbers of one evaluation, both accuracies equal."""
  return {
    f"{key}/{head}{end}": value
    for key in ("private_accuracy", "shared_accuracy")
    for head, mean in (("main", main), ("aux1", aux))
    for end, value in (("", mean), ("/std", 0.01))
  }


def write_run(folder, *, algorithm="mhd", finished=None, curves=True):
  """A run folder with metrics, the given summary and a config."""
  with writer.Writer(folder, resume_step=None) as out:
    for step in (100, 200, 300) if curves else ():
      out.write(step, "train", {"loss": 100 / step, "cross_entropy": 0.5, "lr": 0.1})
      out.write(step, "eval", evaluation(step / 500, step / 400))
  config = {"algorithm": algorithm, "source": "digits", "steps": 2000, "algo": {"rho": "<b>&"}}
  record = {
    "config": config,
    "versions": {"jax": "1.2.3"},
    "device": "cpu",
    "git": "",
    "hash": "a",
    "command": "x",
  }
  files.write_json(folder / "config.json", record)
  if finished is not None:
    files.write_json(folder / "summary.json", finished)


def two_clients(seed=0):
  """Private 90 and 80 %, shared 50 and 30 % in the main head; aux1 70/70 and 60/60."""
  private = {"main": [0.9, 0.8], "aux1": [0.7, 0.7]}
  return result(seed, private, {"main": [0.5, 0.3], "aux1": [0.6, 0.6]})


@pytest.fixture
def workdir(tmp_path):
  """A finished run and one baseline beside it."""
  write_run(
    tmp_path,
    finished=summary([two_clients()], algorithm="mhd", bytes_sent={"checkpoints": 1_500_000}),
  )
  separate = summary([two_clients()], algorithm="separate", bytes_sent={})
  write_run(tmp_path / "separate", algorithm="separate", finished=separate)
  return tmp_path


def test_rows_by_hand(workdir):
  rows = table.rows(table.read_runs(workdir))
  assert rows == [
    ("mhd", "main", "85.0 ± 5.0", "40.0 ± 10.0", "75.0", "1.5 MB"),
    ("", "aux1", "70.0 ± 0.0", "60.0 ± 0.0", "75.0", ""),
    ("separate", "main", "85.0 ± 5.0", "40.0 ± 10.0", "75.0", "0 bytes"),
    ("", "aux1", "70.0 ± 0.0", "60.0 ± 0.0", "75.0", ""),
  ]


def test_with_several_seeds_spreads_are_over_seeds(tmp_path):
  second = two_clients(1)
  second["private_accuracy"] = {"main": [0.7, 0.6], "aux1": [0.7, 0.7]}
  second["ensemble_accuracy"] = {"main": 0.25, "aux1": 0.75}
  whole = summary([two_clients(), second], algorithm="mhd", bytes_sent={"weights": 2048})
  write_run(tmp_path, finished=whole)
  row = table.rows(table.read_runs(tmp_path))[0]
  # Private, the seeds' means: 85 and 65, sample standard deviation 10 sqrt(2); ensemble: 75, 25.
  assert row == ("mhd", "main", "75.0 ± 14.1", "40.0 ± 0.0", "50.0 ± 35.4", "2.0 kB")
  assert table.clients(table.read_runs(tmp_path)[0]) == (2, 2)
  said = " ".join(table.closing_table(tmp_path).split())
  assert "over 2 seeds, each the mean of its 2 clients. private:" in said
  page = write_report(tmp_path, pdf=False).read_text()
  assert "2 seeds ran side by side." in page and "Mean over the seeds." in page
  said = captions.remarks(table.read_runs(tmp_path))
  assert said["traffic"] == said["communication"] == "All seeds together."


def test_one_number_has_no_spread_and_entries_have_rows(tmp_path):
  one = two_clients()
  one["shared_accuracy"] = one["shared_accuracy"] | {"server/main": 0.66}
  write_run(tmp_path, finished=summary([one], algorithm="fedgkt", bytes_sent={}))
  assert table.rows(table.read_runs(tmp_path))[2] == ("", "server/main", "", "66.0", "", "")


def test_one_model_a_seed_has_a_spread_over_seeds_like_everyone(tmp_path):
  results = [two_clients(seed) for seed in range(3)]
  for i, one in enumerate(results):
    one["shared_accuracy"]["core/main"] = [0.5 + 0.1 * i]
  write_run(tmp_path, finished=summary(results, algorithm="async_edge", bytes_sent={}))
  core = table.rows(table.read_runs(tmp_path))[2]
  assert core[1:4] == ("core/main", "", "60.0 ± 10.0")


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_client_without_a_number_is_left_out_of_the_means(tmp_path, seeds):
  private = {"main": [0.9, None, 0.7]}  # as summary.json has it
  results = [result(seed, private, {"main": [0.5, 0.2, 0.2]}) for seed in range(seeds)]
  write_run(tmp_path, finished=summary(results, algorithm="mhd", bytes_sent={}))
  (run,) = table.read_runs(tmp_path)
  spread = 0.1 if seeds == 1 else 0.0
  assert table.accuracies(run, "private_accuracy")["main"] == pytest.approx((0.8, spread))
  np.testing.assert_allclose(
    table.over_clients(table.results(run), "private_accuracy")["main"], 0.8
  )


def test_what_a_spread_is_over_does_not_count_clients_that_lie(tmp_path):
  """Three clients, of which the middle one lies, and one model that is no client's."""
  one = result(0, {"main": [0.9, 0.1, 0.7]}, {"main": [0.5, 0.2, 0.3], "server/main": [0.6]})
  write_run(tmp_path, finished=summary([one], algorithm="mhd", bytes_sent={}), curves=False)
  record = files.read_json(tmp_path / "config.json")
  for who in (1, 0):  # `server/main` has one value, which is not that of client 0
    record["config"]["hostile"] = {"kind": "least", "clients": [who]}
    files.write_json(tmp_path / "config.json", record)
    group = table.read_runs(tmp_path)
    assert table.rows(group)[1] == ("", "server/main", "", "60.0", "", "")
    assert table.spread_over(group) == "the 2 clients of one seed"
    assert captions.remarks(group)["shared"].startswith("Mean over the 2 clients;")
  assert table.rows(group)[0][:4] == ("mhd", "main", "40.0 ± 30.0", "25.0 ± 5.0")


def test_no_mean_over_clients_counts_those_that_lie(tmp_path):
  """Two clients, of which client 1 lies; a matrix over clients stays whole."""
  one = two_clients() | {"linear_probe": {"shared": [0.25, 0.75]}}
  write_run(tmp_path, finished=summary([one], algorithm="mhd", bytes_sent={}))
  record = files.read_json(tmp_path / "config.json")
  record["config"]["hostile"] = {"kind": "least", "clients": [1]}
  files.write_json(tmp_path / "config.json", record)
  (found,) = table.results(table.read_runs(tmp_path)[0])
  assert found["linear_probe"] == {"shared": [0.25]}
  whole = [result["accuracy_by_owner"]["main"] for result in (found, one)]
  np.testing.assert_array_equal(*whole)


def test_the_last_evaluation_of_an_unfinished_run_has_a_spread_only_where_one_was_written(tmp_path):
  with writer.Writer(tmp_path, resume_step=None) as out:
    out.write(1, "eval", {"ensemble_accuracy/main": 0.5, **evaluation(0.5, 0.75)})
  (run,) = table.read_runs(tmp_path)
  assert table.accuracies(run, "ensemble_accuracy") == {"main": (0.5, None)}
  assert table.accuracies(run, "shared_accuracy") == {"main": (0.5, 0.01), "aux1": (0.75, 0.01)}


def test_a_run_without_a_graph_has_neither_its_picture_nor_distances(tmp_path):
  one = two_clients()
  del one["edges"], one["accuracy_by_distance"]
  write_run(tmp_path, finished=summary([one], algorithm="separate", bytes_sent={}))
  page = write_report(tmp_path, pdf=False).read_text()
  assert "learning from each other" not in page
  drawn = {file.stem for file in (tmp_path / "plots").iterdir()}
  assert drawn == {"shared", "private", "losses", "owners", "labels"}


def test_closing_table_fits_80_columns(workdir):
  (workdir / "separate").rename(workdir / "a_baseline_with_quite_a_long_name_[bold]")
  text = table.closing_table(workdir)
  assert max(map(len, text.splitlines())) <= 80
  assert "\x1b" not in text
  assert "[bold]" in text.replace("\n", "")
  assert "85.0 ± 5.0" in text and "1.5 MB" in text
  assert "standard deviation over the 2 clients" in " ".join(text.split())


def test_closing_table_of_an_unfinished_run_is_empty(tmp_path):
  write_run(tmp_path)
  assert table.closing_table(tmp_path) == ""


def test_curves_take_evaluations_alone(tmp_path):
  write_run(tmp_path)
  found = table.curves(table.read_runs(tmp_path)[0], "shared_accuracy")
  assert list(found) == ["main", "aux1"]
  np.testing.assert_allclose(found["main"], [[100, 0.2, 0.01], [200, 0.4, 0.01], [300, 0.6, 0.01]])


def test_report_is_self_contained(workdir):
  path = write_report(workdir)
  page = path.read_text()
  names = {"shared", "private", "losses", "distances", "owners", "graph", "labels", "traffic"}
  names |= {"methods", "methods_shared", "methods_private"}
  files_drawn = {file.name for file in (workdir / "plots").iterdir()}
  assert files_drawn == {f"{name}.{end}" for name in names for end in ("png", "svg", "pdf")}
  assert page.count("<svg") == len(names)
  assert write_report(workdir, pdf=False).read_text() == page
  files_drawn = {file.name for file in (workdir / "plots").iterdir()}
  assert files_drawn == {f"{name}.{end}" for name in names for end in ("png", "svg")}
  sources = re.findall(r'(?:src|href)\s*=\s*"([^"]*)"', page)
  assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
  for outside in ("http", "<script", "<link", "@import", 'url("', "url(h"):
    assert outside not in page
  assert len(page) < 1_000_000
  assert path == workdir / "report.html"
  assert "<title>mhd on digits</title>" in page
  assert '<td data-name="bytes sent">1.5 MB</td>' in page


def test_lead_by_hand(workdir):
  assert lead(table.read_runs(workdir)) == (
    "2 clients, each with private data of its own, trained with mhd for 2,000 steps, learning from "
    "each other on a complete graph. "
    "Best shared accuracy (test data, every class weighs the same): 60.0 ± 0.0 %, head aux1. "
    "Best private accuracy (each client's own label distribution): 85.0 ± 5.0 %, head main. "
    "Best shared accuracy of the baselines: separate 60.0 ± 0.0 %. "
    "± is over the 2 clients of one seed."
  )


def test_report_escapes(workdir):
  (workdir / "separate").rename(workdir / "<i>&")
  page = write_report(workdir, pdf=False).read_text()
  assert "<td>algo.rho</td><td>&lt;b&gt;&amp;</td>" in page
  assert '<td data-name="run">&lt;i&gt;&amp;</td>' in page
  assert "<b>" not in page and "<i>" not in page


def test_report_of_an_unfinished_run(tmp_path):
  write_run(tmp_path)
  page = write_report(tmp_path, pdf=False).read_text()
  assert "has not finished: it is at step 300 of 2,000." in page
  assert "every class weighs the same): 75.0&nbsp;±&nbsp;1.0&nbsp;%, head aux1." in page
  assert page.count("<svg") == 3
  assert "<h2>Results</h2>" not in page


def test_report_of_a_run_that_has_just_begun(tmp_path):
  write_run(tmp_path, curves=False)
  page = write_report(tmp_path, pdf=False).read_text()
  assert "<svg" not in page and "it is at step 0 of 2,000." in page


@pytest.mark.parametrize("name", ["missing", "empty", "runs"])
def test_a_folder_without_a_run_is_refused_and_left_alone(name, tmp_path):
  write_run(tmp_path / "runs" / "a")
  (tmp_path / "empty").mkdir()
  before = sorted(tmp_path.rglob("*"))
  what = "name one, or see `kdjax compare`" if name == "runs" else "no config.json"
  with pytest.raises(ConfigError, match=f"RUN = .*{name}.*must be a run's folder: .*{what}"):
    write_report(tmp_path / name)
  assert sorted(tmp_path.rglob("*")) == before


def test_report_after_divergence(tmp_path):
  write_run(tmp_path, curves=False)
  with writer.Writer(tmp_path, resume_step=None) as out:
    out.write(1, "train", {"loss": float("nan")})
    out.write(1, "eval", {"shared_accuracy/main": float("nan"), "shared_accuracy/main/std": 0.0})
  assert write_report(tmp_path, pdf=False).read_text().count("<svg") == 2


def test_figures_of_what_only_some_methods_measure(tmp_path):
  """Areas of overlap, a confusion matrix a client, bytes by formula, FLOPs: each where it is."""
  one = two_clients() | {"confusion": {"main": np.ones((2, CLASSES, CLASSES), int)}}
  whole = summary([one], algorithm="fedgkt", bytes_sent={"features": 10})
  facts = {
    "communication": {"fedgkt_eq13": 8, "split_eq12": 20},
    "flops": {"edge": 1e6},
    "input_bound": 0.257,
  }
  write_run(tmp_path, finished=whole | facts)
  shares = {"teacher": 0.5, "student": 0.6, "mutual": 0.4, "exclusive": 0.2, "consensus": 4 / 7}
  with writer.Writer(tmp_path, resume_step=300) as out:
    for step in (301, 302):
      out.write(step, "eval", {f"overlap_test/{name}": v for name, v in shares.items()})
      out.write(step, "drift", {"drift": 0.1})
  page = write_report(tmp_path, pdf=False).read_text()
  drawn = {file.stem for file in (tmp_path / "plots").iterdir()}
  assert {"overlap", "confusion", "communication", "flops", "drift"} <= drawn
  assert "<dt>waiting for input</dt><dd>25.7%</dd>" in page
  assert "Who gets what right" in page and "Arithmetic" in page


def test_what_went_wrong_stands_below_the_table(tmp_path):
  """A finished run from its summary, one under way from its log."""
  found = result(0, {"main": [0.5, 0.5]}, {"main": [0.5, 0.5]})
  one = summary([found], algorithm="mhd", bytes_sent={})
  one |= {"heads": ["main"], "refused": {"1": 40, "0": 2}}
  one["faults"] = [dict(client=1, step=7, steps=3), dict(client=0, step=9, steps=1)]
  config = {"config": {"faults": {"client": "reset"}, "algorithm": "mhd"}}
  files.write_json(tmp_path / "config.json", config)
  with writer.Writer(tmp_path, resume_step=None) as log:
    log.write(10, "fault", dict(client=1, since=7))
  page = write_report(tmp_path, pdf=False).read_text()
  faulty = "client 1 had a loss, gradient or statistic that was not finite at step 7, the first"
  assert f"{faulty} such client (faults.client=reset)" in page
  files.write_json(tmp_path / "summary.json", one)
  said = f"{faulty} such client, then 1 more; 4 steps were skipped"
  text = " ".join(table.closing_table(tmp_path).split())
  assert said in text and "2 clients refused 42 predictions" in text
  page = write_report(tmp_path, pdf=False).read_text()
  assert said in page and "2 clients refused 42 predictions" in page
