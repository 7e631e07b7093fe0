"""The record, the page and the documents; runs are written by hand."""

import json
import re

import pytest
from toy_paper import CLAIM, PAPER, write_run

from kdjax.core import files
from kdjax.reproduce import cli, documents, judging, numbers, record, runs
from kdjax.reproduce.claims import Task
from kdjax.reproduce.judging import Collapsed
from kdjax.reproduce.verdict import CONFIRMED, NOT_RUN, REFUTED
from kdjax.types import ConfigError


@pytest.fixture
def confirmed(asked):
  """Runs by which the claim is confirmed."""
  write_run(asked, "a", (0.9, 0.8, 0.9, 0.8, 0.9))
  write_run(asked, "b", (0.5, 0.4, 0.5, 0.4, 0.5))
  write_run(asked, "frozen", (0.1,) * 5)


def test_a_report_has_the_claims_the_tables_and_the_figures(asked, confirmed, toy, capsys):
  line = ["toy", f"--workdir={asked.workdir}", "--report-only"]
  assert cli.reproduce_cli(line) == 0
  assert "1 confirmed" in capsys.readouterr().out
  html = (asked.workdir / "reproduce.html").read_text()
  for words in (
    "toy.gain",
    "A (Fig. 1)",
    "B (Fig. 2)",
    "Both (Table 2)",
    "paper 54.5",
    "<svg",
    "<td>5</td>",
  ):
    assert words in html
  assert (asked.workdir / "figures" / "toy_curve_t.png").stat().st_size > 1000
  found = json.loads((asked.workdir / "results.json").read_text())
  assert [c["verdict"] for c in found["claims"]] == [CONFIRMED]
  curve, cost, both = found["tables"]
  assert both["rows"]["B"][1] is None and "drawn" not in both
  assert found["claims"][0]["made"]["commit"] == "abc"
  assert (curve["title"], curve["columns"]) == ("A (Fig. 1): %, by n", ["1", "2"])
  assert [f"{cell['mean']:.1f}" for cell in curve["rows"]["a"]] == ["86.0", "46.0"]
  assert cost["columns"] == ["%", "bytes"]
  reached, sent = cost["rows"]["b"]
  assert reached["mean"] == pytest.approx(46) and sent["cost"] == 100  # a seed
  assert record.table_cells(cost)[1][1] == ["b", "46.0 ± 5.5", "100"]
  assert html.count("<h3>Both (Table 2)") == 1 and "by n" not in html  # what is drawn is no table


def test_a_verdict_is_a_block_of_lines_as_wide_as_the_terminal(asked, confirmed):
  """It was a row of 178 columns."""
  judged = judging.judge(asked, PAPER, CLAIM, PAPER.task("t"))
  waits = judged._replace(task="u", word=NOT_RUN, rows=(), note="needs a data set")
  found = [record.as_record(one, "tiny") for one in (judged, waits)]
  assert record.text(found, 60) == (
    "toy.gain on t: confirmed\n"
    "  only if  training matters\n"
    "           b, main: 46.0 ± 5.5\n"
    "           frozen, main: 10.0 ± 0.0\n"
    "           difference +36.0 [+29.2, +42.8] > 3: confirmed\n"
    "  claim    a, main: 86.0 ± 5.5 (paper 54.5)\n"
    "           b, main: 46.0 ± 5.5\n"
    "           difference +40.0 [+40.0, +40.0] > 2: confirmed\n"
    "\n"
    "toy.gain on u: not run\n"
    "  why      needs a data set\n"
    "\n"
    "A difference is the first line minus the second in points,\n"
    "with its 95 % interval and the effect stated beforehand.\n"
    "\n"
    "1 confirmed\n"
  )


def test_what_no_commit_can_make_again_is_no_document(asked, confirmed, toy, tmp_path):
  (run,) = runs.runs(asked, PAPER, PAPER.task("t"), "b")
  path = run.point.folder / "config.json"
  files.write_json(path, files.read_json(path) | {"git": "abc-dirty"})
  line = ["toy", f"--workdir={asked.workdir}", "--report-only"]
  assert cli.reproduce_cli(line) == 0
  made = json.loads((asked.workdir / "results.json").read_text())["claims"][0]["made"]
  assert made["commit"] == "abc, abc-dirty"
  with pytest.raises(ConfigError, match="--documents = 'abc-dirty'"):
    cli.reproduce_cli([*line, f"--documents={tmp_path}"])


def test_documents_are_written_from_the_record(asked, confirmed, toy, tmp_path):
  checkout = tmp_path / "checkout"
  (checkout / "docs").mkdir(parents=True)
  table = "| method | ours |\n|---|---|\n| A | not run |\n"
  readme = f"# X\n{documents.BEGIN}\n{table}{documents.END}\nrest\n"
  (checkout / "README.md").write_text(readme)
  line = ["toy", f"--workdir={asked.workdir}", "--report-only", f"--documents={checkout}"]
  assert cli.reproduce_cli(line) == 0
  page = (checkout / "docs" / "results.md").read_text()
  assert "### toy.gain" in page and "t **confirmed**" in page and "| A | 86.0 ± 5.5" in page
  assert "(paper 54.5) | b, main: 46.0 ± 5.5 | 5 | +40.0 [" in page  # five seeds
  text = (checkout / "README.md").read_text()
  assert text.startswith("# X\n") and text.endswith("\nrest\n")
  said = text[text.index("| A | not run |") :].splitlines()
  assert said[2:5] == [
    "| claims of | confirmed | refuted | undecided | not testable here | on |",
    "| --- | --- | --- | --- | --- | --- |",
    "| toy | 1 | 0 | 0 | 0 | digits |",
  ]
  found = files.read_json(checkout / "docs" / "results.json")
  assert documents.in_readme(text, found) == text  # once more changes nothing


def test_a_claim_is_one_row_and_its_data_sets_are_columns(monkeypatch):
  tasks = (Task("u", "mhd_digits", 1.0), Task("v", "mhd_letter", 1.0, data="letter"))
  declare(monkeypatch, PAPER._replace(tasks=(*PAPER.tasks, *tasks)))
  one = {"name": "toy.gain", "size": "tiny", "task": "t", "verdict": CONFIRMED}
  more = [one | {"task": "u", "verdict": REFUTED}, one | {"task": "v", "verdict": NOT_RUN}]
  last = one | {"name": "toy.loss", "task": "v"}
  header, _, *rows = documents._overview([one, *more, last]).splitlines()
  assert header == "| claim | digits | letters |"
  assert rows == ["| toy.gain | confirmed, refuted |  |", "| toy.loss |  | confirmed |"]


def test_the_readme_shows_a_method_s_number_on_each_set():
  cell = lambda mean: {"mean": mean, "spread": 1.0, "paper": None, "name": ""}
  tables = [
    {"name": documents.OURS, "task": task, "rows": {"MHD": [cell(mean)], "kd": [None]}}
    for task, mean in (("digits", 71.06), ("cifar10", 40.0))
  ]
  assert documents.best(tables) == {"MHD": "digits 71.1, CIFAR-10 40.0"}


def declare(monkeypatch, paper):
  """Puts a paper in the place of all others."""
  for place in (cli, documents):
    monkeypatch.setattr(place, "named", lambda: {"toy": paper})


def test_a_claim_has_a_place_of_its_own_for_each_data_set(asked, confirmed, monkeypatch):
  claim = CLAIM._replace(tasks={"tiny": ("t", "u")})
  tasks = (*PAPER.tasks, Task("u", "mhd_digits", 0.1, {"steps": 30}))
  declare(monkeypatch, PAPER._replace(claims=(claim,), tasks=tasks))
  assert cli.reproduce_cli([f"--workdir={asked.workdir}", "--report-only"]) == 0
  html = (asked.workdir / "reproduce.html").read_text()
  places = re.findall(r'\bid="([^"]*)"', html)
  assert len(places) == len(set(places)) and {"toy.gain.t", "toy.gain.u"} <= set(places)
  links = re.findall(r'<a href="#([^"]*)"', html)
  assert links == ["toy.gain.t", "toy.gain.t", "toy.gain.u"]  # the name's, then each verdict's
  assert re.findall(r'"on">(\w+) <a', html) == ["t", "u"]  # no column for each: they are many


def test_what_has_no_verdict_is_listed_with_its_data_sets_as_declared(monkeypatch):
  claim = CLAIM._replace(tasks={"tiny": ("t",), "small": ("u", "v"), "paper": ("w",)})
  declare(monkeypatch, PAPER._replace(claims=(claim,)))
  one = {"name": "toy.gain", "size": "tiny", "task": "t", "verdict": CONFIRMED}
  waits = one | {"size": "small", "task": "u", "verdict": NOT_RUN}
  heading, words, table = documents._not_run([one, waits])  # of v and w there is no record
  assert heading == "## Not run" and "3 claims" in words
  assert table.splitlines()[2:] == ["| toy.gain |  | u, v |  | w |"]
  every = [one] + [one | {"size": s, "task": t} for s, t in (("small", "u"), ("small", "v"))]
  assert documents._not_run([*every, one | {"size": "paper", "task": "w"}]) == []


def test_a_record_s_words_are_those_declared_and_what_is_not_declared_goes(toy):
  one = {"name": "toy.gain", "size": "tiny", "task": "t", "verdict": REFUTED}
  old = one | {"where": "Table 9", "says": "Old.", "note": "Old."}
  gone = [old | {"name": "toy.other"}, old | {"task": "u"}, old | {"name": "toy.both"}]
  table = {"name": "toy.both", "size": "tiny", "task": "t"}
  found = {"claims": [old, *gone], "tables": [table, table | {"name": "toy.lost"}]}
  new = one | {"where": "Table 1", "says": "A is better.", "note": "Because of this."}
  assert documents.as_declared(found) == {"claims": [new], "tables": [table]}


@pytest.mark.parametrize(
  "verdict, note",
  [
    (CONFIRMED, ""),  # what is declared explains another verdict
    (NOT_RUN, "Why."),  # which only the record knows
  ],
)
def test_what_is_not_explained_keeps_no_explanation(toy, verdict, note):
  one = {"name": "toy.gain", "size": "tiny", "task": "t", "verdict": verdict, "note": "Why."}
  assert documents.as_declared({"claims": [one], "tables": []})["claims"][0]["note"] == note


def test_tasks_that_are_tested_on_training_images_are_named():
  held = Task("held", "mhd_digits", 1.0, {"holdout": 5_000})
  paper = PAPER._replace(tasks=(*PAPER.tasks, held))
  said = record.held_out(paper, ["t", "held", "held"])
  assert said == "Tested on training images held out, not on the test set: held (5,000)."
  twice = paper._replace(tasks=(paper.tasks[0]._replace(settings={"holdout": (2_000, 5_000)}),))
  assert record.held_out(twice, [twice.tasks[0].name]).endswith(f": {twice.tasks[0].name} (5,000).")
  assert record.held_out(paper, ["t"]) == record.held_out(PAPER, ["held"]) == ""


def test_heads_that_collapsed_stand_beside_the_verdict(asked, toy):
  fell = [
    {"replica": 0, "client": 1, "head": "aux1", "class": 3, "since": 5, "until": 20},
    {"replica": 4, "client": 8, "head": "aux1", "class": 3, "since": 15, "until": 20},
    {"replica": 4, "client": 9, "head": "main", "class": 0, "since": 5, "until": 15},
  ]
  write_run(asked, "a", (0.9,) * 5, steps=20, collapsed=fell)
  write_run(asked, "b", (0.5,) * 5, steps=20, collapsed=[])
  write_run(asked, "frozen", (0.1,) * 5)
  of_seeds = numbers.results(runs.runs(asked, PAPER, PAPER.task("t"), "a"))
  assert [len(result["collapsed"]) for result in of_seeds] == [1, 0, 0, 0, 2]
  judged = judging.judge(asked, PAPER, CLAIM, PAPER.task("t"))
  assert judged.collapsed == (Collapsed("a", "aux1", 2, 0), Collapsed("a", "main", 0, 1))
  assert cli.reproduce_cli([f"--workdir={asked.workdir}", "--report-only"]) == 0
  found = files.read_json(asked.workdir / "results.json")
  said = record.collapsed(found["claims"][0])
  assert said.endswith("a, aux1: 2 to the end; a, main: 1 for a while.")
  assert said in (asked.workdir / "reproduce.html").read_text()
  assert f"t: {said}" in documents.page(found)
  assert record.collapsed(found["claims"][0] | {"collapsed": []}) == ""
