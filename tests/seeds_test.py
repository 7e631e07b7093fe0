"""The tables over seeds, by hand."""

import json

from kdjax import seeds, table


def folder(path, shared, private, distances=None):
  """A run folder of two seeds and two clients."""
  path.mkdir(exist_ok=True)
  runs = [
    {
      "seed": r,
      "label_counts": [[1], [1]],
      "private_accuracy": {"main": private[r]},
      "shared_accuracy": {"main": shared[r]},
      "accuracy_by_distance": {"main": {"0": sum(private[r]) / 2, "1": 0.25}},
    }
    for r in range(2)
  ]
  summary = {"algorithm": path.name, "heads": ["main"], "runs": runs, "wall_seconds": 1.6}
  (path / "summary.json").write_text(json.dumps(summary))
  record = {"config": {}, "versions": {"jax": "1.2"}, "device": "a cpu", "git": "abc"}
  (path / "config.json").write_text(json.dumps(record))


def test_means_are_over_clients_and_spreads_over_seeds(tmp_path):
  folder(tmp_path / "mhd", [[0.5, 0.7], [0.8, 0.8]], [[1.0, 1.0], [0.9, 1.0]])
  folder(tmp_path / "mhd" / "separate", [[0.4, 0.4], [0.5, 0.7]], [[1.0, 1.0], [1.0, 1.0]])
  text = seeds.report(tmp_path / "mhd")
  # Seeds: .6 and .8; mean .7, sample standard deviation .1 sqrt(2).
  assert "| mhd | main | 97.5 ± 3.5 (95.0 .. 100.0) | 70.0 ± 14.1 (60.0 .. 80.0) |" in text
  # Paired with separate's .4 and .6: both differences are .2.
  assert "| main - separate | 20.0 ± 0.0 (20.0 .. 20.0) |" in text
  assert "| main | 97.5 ± 3.5 (95.0 .. 100.0) | 25.0 ± 0.0 (25.0 .. 25.0) |" in text
  assert "seeds [0, 1]; seconds {'mhd': 2, 'separate': 2}; commit abc; jax 1.2; a cpu" in text


def test_a_baseline_takes_its_name_from_its_folder(tmp_path):
  folder(tmp_path / "run", [[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2)
  folder(tmp_path / "run" / "fedavg", [[0.5, 0.5]] * 2, [[0.5, 0.5]] * 2)
  assert [run.name for run in table.read_runs(tmp_path / "run")] == ["run", "fedavg"]
