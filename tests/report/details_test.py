"""The tables over seeds, by hand."""

import json

import pytest

from kdjax.report import details, table
from kdjax.types import ConfigError


def folder(path, shared, private, distances=None):
  """A run folder of two seeds and two clients."""
  path.mkdir(exist_ok=True)
  runs = [
    {
      "seed": r,
      "label_counts": [[1], [1]],
      "private_examples": [100 * (r + 1), 200],
      "private_accuracy": {"main": private[r]},
      "shared_accuracy": {"main": shared[r]},
      "accuracy_by_distance": {"main": {"0": sum(private[r]) / 2, "1": 0.25}},
    }
    for r in range(2)
  ]
  summary = {"algorithm": path.name, "heads": ["main"], "runs": runs, "wall_seconds": 1.6}
  summary["bytes_sent"] = {"weights": 3_000_000}
  (path / "summary.json").write_text(json.dumps(summary))
  record = {"config": {}, "versions": {"jax": "1.2"}, "device": "a cpu", "git": "abc"}
  (path / "config.json").write_text(json.dumps(record))


def test_means_are_over_clients_and_spreads_over_seeds(tmp_path):
  folder(tmp_path / "mhd", [[0.5, 0.7], [0.8, 0.8]], [[1.0, 1.0], [0.9, 1.0]])
  folder(tmp_path / "mhd" / "separate", [[0.4, 0.4], [0.5, 0.7]], [[1.0, 1.0], [1.0, 1.0]])
  text = details.report(tmp_path / "mhd")
  # Seeds: .6 and .8; mean .7, sample standard deviation .1 sqrt(2).
  assert "| mhd | main | 97.5 ± 3.5 (95.0 .. 100.0) | 70.0 ± 14.1 (60.0 .. 80.0) |" in text
  # Paired with separate's .4 and .6: both differences are .2.
  assert "| main - separate | 20.0 ± 0.0 (20.0 .. 20.0) |" in text
  assert "| main | 97.5 ± 3.5 (95.0 .. 100.0) | 25.0 ± 0.0 (25.0 .. 25.0) |" in text
  assert "| mhd | 1.50 | 175 |" in text  # of 100, 200 and 200, 200 examples
  assert "seeds [0, 1]; seconds {'mhd': 2, 'separate': 2}; commit abc; jax 1.2; a cpu" in text


def test_a_client_that_lies_has_no_row(tmp_path):
  folder(tmp_path, [[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2)
  summary, record = (
    json.loads((tmp_path / f).read_text()) for f in ("summary.json", "config.json")
  )
  for r in summary["runs"]:
    r["combined_accuracy"] = {"main": [0.4, 0.5]}
  record["config"]["hostile"] = {"kind": "least", "clients": [0]}
  (tmp_path / "summary.json").write_text(json.dumps(summary))
  (tmp_path / "config.json").write_text(json.dumps(record))
  *_, row = details.client_table(table.read_runs(tmp_path)).splitlines()
  assert row.split(" | ")[1:] == ["1", "-", "-", "50.0 ± 0.0 (50.0 .. 50.0) |"]


def test_a_baseline_takes_its_name_from_its_folder(tmp_path):
  folder(tmp_path / "run", [[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2)
  folder(tmp_path / "run" / "fedavg", [[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2)
  assert [run.name for run in table.read_runs(tmp_path / "run")] == ["run", "fedavg"]


def test_entries_without_a_private_side_and_rounds_of_a_core(tmp_path):
  folder(tmp_path / "run", [[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2)
  path = tmp_path / "run" / "summary.json"
  summary = json.loads(path.read_text())
  for r in summary["runs"]:
    r["shared_accuracy"]["core/main"] = [0.6]
    r["local_accuracy"] = {"main": [0.9, 0.7]}
    r["combined_accuracy"] = {"main": [0.4, 0.5]}
  path.write_text(json.dumps(summary))
  measured = {f"overlap_test/{k}": 0.25 for k in ("student", "teacher", "consensus")}
  watched = {"train_accuracy": 0.9, "jump": 0.1, "flag": 0.5}
  lines = [
    {"phase": "watch", **watched},
    {"phase": "eval", "overlap_edge/student": 0.3, **measured},
  ]
  text = "".join(json.dumps({"step": 8, **line}) + "\n" for line in lines)
  (tmp_path / "run" / "metrics.jsonl").write_text(text)
  text = details.report(tmp_path / "run")
  assert "| run | core/main | - | 60.0 ± 0.0 (60.0 .. 60.0) |" in text
  assert "| run | 1 | 70.0 ± 0.0 (70.0 .. 70.0) | - | 50.0 ± 0.0 (50.0 .. 50.0) |" in text
  assert "| 1 | 25.0 | 25.0 | 25.0 | 30.0 | 90.0 | 50.0 |" in text


def test_without_the_overlap_evaluator_rounds_have_only_the_watch(tmp_path):
  folder(tmp_path, [[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2)
  lines = [
    {"step": 4, "phase": "watch", "train_accuracy": 0.9, "jump": None, "flag": 0.5},
    {"step": 6, "phase": "eval", "shared_accuracy/main": 0.5},
    {"step": 8, "phase": "watch", "train_accuracy": None, "jump": 0.1, "flag": 0.0},
  ]
  (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  text = details.report(tmp_path)
  assert "| round | training accuracy | flagged |\n| --- | --- | --- |\n" in text
  assert "| 1 | 90.0 | 50.0 |\n| 2 | - | 0.0 |" in text


def test_an_evaluation_within_a_round_is_no_round(tmp_path):
  folder(tmp_path, [[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2)
  lines = [
    {"step": 4, "phase": "watch", "train_accuracy": 0.9, "flag": 0.5},
    {"step": 4, "phase": "eval", "overlap_test/consensus": 0.25},
    {"step": 6, "phase": "eval", "overlap_test/consensus": 0.75},
  ]
  (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  table_of = details.round_table(table.read_runs(tmp_path)[0])
  assert table_of.splitlines()[2:] == ["| 1 | 25.0 | 90.0 | 50.0 |"]


def test_a_number_that_is_not_there_is_a_dash(tmp_path):
  """JSON's null: of clients none of whose labels are tested; one of them alone is left out."""
  folder(tmp_path, [[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2)
  summary = json.loads((tmp_path / "summary.json").read_text())
  first = summary["runs"][0]
  first["private_accuracy"]["main"] = [None, None]
  first["accuracy_by_distance"]["main"]["0"] = None
  (tmp_path / "summary.json").write_text(json.dumps(summary))
  text = details.report(tmp_path)
  assert "| main | - | 50.0 ± 0.0 (50.0 .. 50.0) |" in text  # private, shared
  assert "| main | - | 25.0 ± 0.0 (25.0 .. 25.0) |" in text  # distance 0, distance 1


def test_without_the_accuracy_evaluator_its_tables_are_left_out(tmp_path):
  for place in (tmp_path, tmp_path / "separate"):
    folder(place, [[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2)
    summary = json.loads((place / "summary.json").read_text())
    for one in summary["runs"]:
      for key in ("private_accuracy", "shared_accuracy", "accuracy_by_distance"):
        del one[key]
    (place / "summary.json").write_text(json.dumps(summary))
  text = details.report(tmp_path)
  assert text.startswith("| method | MB sent per seed |") and "shared" not in text


def test_a_run_that_has_not_finished_is_refused_whatever_its_baselines(tmp_path):
  folder(tmp_path, [[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2)
  folder(tmp_path / "separate", [[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2)
  (tmp_path / "summary.json").unlink()
  for place in (tmp_path, tmp_path / "nowhere"):
    with pytest.raises(ConfigError, match="RUN = .* holds no finished run"):
      details.report(place)
