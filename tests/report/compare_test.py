"""`kdjax compare`: means and spreads over seeds, paired differences, the forms to paste."""

import csv
import io
import json

import numpy as np
import pytest

from kdjax.report import compare, entries, formats
from kdjax.types import ConfigError


def folder(path, algorithm, shared, first_seed=0, **config):
  """A finished run; `shared` is a list over seeds of a list over clients."""
  path.mkdir(parents=True)
  runs = [
    {
      "seed": first_seed + r,
      "label_counts": [[1]] * len(values),
      "private_examples": [100] * len(values),
      "shared_accuracy": {"main": values, "aux1": [v + 0.1 for v in values]},
    }
    for r, values in enumerate(shared)
  ]
  whole = {"algorithm": algorithm, "heads": ["main", "aux1"], "runs": runs}
  (path / "summary.json").write_text(json.dumps(whole | {"bytes_sent": {"weights": 3000}}))
  record = {"config": {"algorithm": algorithm, "seed": first_seed, **config}}
  (path / "config.json").write_text(json.dumps(record))
  return path


@pytest.fixture
def places(tmp_path):
  """MHD on seeds 0 and 1, and alone on seed 2; its baseline on seeds 0 and 1."""
  mhd = folder(tmp_path / "mhd", "mhd", [[0.5, 0.7], [0.8, 0.8]], algo={"teachers": 1})
  folder(mhd / "separate", "separate", [[0.4, 0.4], [0.5, 0.7]])
  more = folder(tmp_path / "more", "mhd", [[0.9, 0.9]], first_seed=2, algo={"teachers": 1})
  return [mhd, more]


def test_means_are_over_clients_spreads_over_seeds_and_runs_of_other_seeds_are_one(places):
  main, aux, *_ = compare.rows(entries.read(places))
  assert (main["method"], main["head"], main["seeds"], main["clients"]) == ("mhd", "main", 3, 2)
  means = np.array([0.6, 0.8, 0.9])
  assert main["shared_accuracy"] == pytest.approx(means.mean())
  assert main["shared_accuracy_spread"] == pytest.approx(means.std(ddof=1))
  assert aux["shared_accuracy"] == pytest.approx(means.mean() + 0.1)
  assert main["bytes_sent"] == pytest.approx((1500 + 1500 + 3000) / 3)
  assert main["private_examples"] == 100
  assert "mean ± standard deviation over seeds" in " ".join(compare.text([main]).split())


def test_differences_are_paired_by_seed_and_who_has_no_partner_is_named(places):
  runs = entries.read(places)
  main, _, base, _ = compare.rows(runs, baseline="separate")
  assert main["shared_accuracy_difference"] == pytest.approx(0.2)  # .6 - .4 and .8 - .6
  assert main["shared_accuracy_difference_spread"] == pytest.approx(0.0, abs=1e-12)
  assert main["pairs"] == 2 and base["pairs"] is None
  assert compare.unpaired(runs, "separate") == ["mhd - separate: left out, with mhd alone: seeds 2"]


def test_other_hyper_parameters_are_another_row(places, tmp_path):
  two = folder(tmp_path / "two", "mhd", [[0.5, 0.5]], algo={"teachers": 2})
  names = {row["method"] for row in compare.rows(entries.read([*places, two]))}
  assert names == {"mhd algo.teachers=1", "mhd algo.teachers=2", "separate"}


def test_a_long_value_in_a_name_ends_in_dots_and_a_folder_names_its_row(tmp_path):
  wide = lambda n: [[n, "mlp", {"hidden": [64, 64, 64], "activation": "tanh"}]]  # 61 characters
  for n in (2, 3):
    folder(tmp_path / f"{n}", "mhd", [[0.25 * n] * n], clients=wide(n))
  places = [tmp_path / "2", tmp_path / "3"]
  names = [f"mhd clients=[[{n}, 'mlp', {{'hidden': [64, 64, 64], ..." for n in (2, 3)]
  for base in (names[0], str(tmp_path / "more" / ".." / "2")):
    two, _, three, _ = compare.rows(entries.read(places), baseline=base)
    assert [two["method"], three["method"]] == names
    assert two["pairs"] is None and three["shared_accuracy_difference"] == pytest.approx(0.25)
  more = folder(tmp_path / "more", "mhd", [[1.0, 1.0]], first_seed=1, clients=wide(2))
  two, _, three, _ = compare.rows(entries.read([*places, more]), baseline=str(more))
  assert two["seeds"] == 2 and three["pairs"] == 1  # the folder of any of a row's runs


def test_what_becomes_of_faulty_clients_makes_another_row_and_where_it_ran_does_not(tmp_path):
  for name, first, client, conv in (
    ("a", 0, "freeze", "x"),
    ("b", 1, "freeze", "y"),
    ("c", 2, "reset", "y"),
  ):
    own = dict(faults={"client": client}, mesh={"conv": conv})
    folder(tmp_path / name, "mhd", [[0.5, 0.5]], first_seed=first, **own)
  rows = compare.rows(entries.read([tmp_path]))
  found = {row["method"]: row["seeds"] for row in rows}
  assert found == {"mhd faults.client=freeze": 2, "mhd faults.client=reset": 1}


def test_shares_are_in_percent_and_other_metrics_as_they_are(tmp_path):
  row = dict(method="m", head="main", seeds=2, clients=2, pairs=None, private_examples=None)
  shares = ("shared_accuracy", "linear_probe", "overlap_test_before")
  for metric in (*shares, "norm", "inaccuracy", "overlap_pixels"):
    header, (cells,) = compare.cells(
      [{**row, metric: 0.5, f"{metric}_spread": 0.1, "bytes_sent": 1}]
    )
    percent = metric in shares
    assert cells[3] == ("50.0 ± 10.0" if percent else "0.5 ± 0.1"), metric
    assert header[3].endswith(" %") == percent


def test_one_seed_has_no_spread(tmp_path):
  (main, _) = compare.rows(entries.read([folder(tmp_path / "one", "mhd", [[0.5, 0.7]])]))
  assert main["shared_accuracy_spread"] is None
  assert "one seed each, no spread" in " ".join(compare.text([main]).split())
  assert "60.0 " in compare.text([main]) and "±" not in compare.text([main]).splitlines()[3]


def test_the_forms(places):
  found = compare.rows(entries.read(places))
  back = list(csv.DictReader(io.StringIO(formats.csv(found))))
  assert float(back[0]["shared_accuracy"]) == found[0]["shared_accuracy"]
  cells = compare.cells(found)
  markdown = formats.markdown(*cells).splitlines()
  assert markdown[0] == "| method | head | seeds | shared % | sent per seed | examples |"
  assert markdown[2] == "| mhd | main | 3 | 76.7 ± 15.3 | 2.0 kB | 100 |"
  latex = formats.latex(*cells, words=2)
  assert latex.startswith(r"\begin{tabular}{llrrrr}") and r"shared \%" in latex
  assert r"mhd & main & 3 & 76.7 $\pm$ 15.3 & 2.0 kB & 100 \\" in latex


def test_the_command_line(places, capsys):
  names = [str(place) for place in places]
  assert compare.compare_cli([*names, "--baseline=separate", "--markdown"]) == 0
  out, err = capsys.readouterr()
  assert "| mhd | main | 3 | 76.7 ± 15.3 | 20.0 ± 0.0 | 2 |" in out and "seeds 2" in err
  assert compare.compare_cli([names[0], "--metric=shared_accuracy", "--csv"]) == 0
  assert capsys.readouterr().out.startswith("method,head,seeds,clients,shared_accuracy,")


def test_files_beside_folders_are_passed_over_and_alone_refused(places, tmp_path, capsys):
  (tmp_path / "sweep.json").write_text("{}")  # as `kdjax compare runs/sweep/*` names it
  everything = sorted(tmp_path.iterdir())
  assert compare.compare_cli([*map(str, everything), "--markdown"]) == 0
  assert "| mhd | main | 3 |" in capsys.readouterr().out
  assert entries.folders(everything) == sorted(places)  # those of --full
  for wrong in (["sweep.json"], ["mhd", "nowhere"]):
    with pytest.raises(ConfigError, match=f"{wrong[-1]}.*holds no finished run"):
      compare.compare_cli([str(tmp_path / name) for name in wrong])


def test_a_run_that_has_not_finished_is_said_and_left_out_beside_others(places, capsys):
  (places[1] / "summary.json").unlink()
  names = [str(place) for place in places]
  assert compare.compare_cli([*names, "--markdown"]) == 0
  out, err = capsys.readouterr()
  assert "| mhd | main |" in out and f"{places[1]} has not finished: left out" in err
  with pytest.raises(ConfigError, match=f"{names[1]}.*holds no finished run"):
    compare.compare_cli(names[1:2])


@pytest.mark.parametrize(
  "arguments, key",
  [(["/nowhere"], "RUN"), (["--baseline=fedavg"], "--baseline"), (["--metric=loss"], "--metric")],
)
def test_what_cannot_be_compared_is_refused(arguments, key, places):
  places = [] if arguments == ["/nowhere"] else list(map(str, places))
  with pytest.raises(ConfigError) as error:
    compare.compare_cli([*places, *arguments])
  assert error.value.key == key


def test_numbers_that_do_not_fit_beside_each_other_follow_in_a_table_below():
  """A narrow terminal had them cut in two, '-16.' above '7 ± 12.0'."""
  header = ["method", "private % difference", "shared % difference"]
  rows = [["a method with a long name", "-16.7 ± 12.0", "9.8 ± 3.5"], ["b", "-0.6 ± 0.3", "-"]]
  found = formats.text(header, rows, words=1, width=36, caption="A caption.")
  lines = found.splitlines()
  assert max(map(len, lines)) <= 36
  for number in ("-16.7 ± 12.0", "9.8 ± 3.5", "-0.6 ± 0.3"):
    assert sum(number in line for line in lines) == 1
  assert sum(line.split()[:1] == ["method"] for line in lines) == 2
  assert found.count("A caption.") == 1 and lines[-1].startswith("A caption.")
  assert formats.text(header, rows, words=1, width=100).count("method  ") == 1
