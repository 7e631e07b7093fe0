"""What is declared about the papers can be run and judged."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest

from kdjax.core import files
from kdjax.reproduce import claims, cli, data_sets, documents, listing, record, runs
from kdjax.reproduce.claims import Arm, Claim, Control, Difference, Lines, Paper, Quantity, Task
from kdjax.reproduce.papers import named
from kdjax.reproduce.runs import Asked, NotHere
from kdjax.reproduce.verdict import NOT_RUN

PAPERS = named()


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_is_declared_whole(name):
  paper = PAPERS[name]
  assert claims.problems(paper) == []
  assert paper.name == name
  for claim in paper.claims:
    assert claim.where and claim.says.endswith(".") and claim.tasks


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory):
  """A folder in which every data set seems to lie."""
  folder = tmp_path_factory.mktemp("sets")
  for forms in data_sets.FORMS.values():
    (folder / forms[0][0]).touch()
  for name in data_sets.TFDS.values():
    (folder / name).mkdir()
  return folder


def pairs():
  for name, paper in PAPERS.items():
    used = {}
    for one in (*paper.claims, *paper.figures):
      for tasks in one.tasks.values():
        used |= {(task, arm): None for task in tasks for arm in claims.arms_of(one)}
    yield from ((name, task, arm) for task, arm in used)


@functools.cache
def point(name, task, arm, folder):
  """The run of an arm that a paper declares, which is built once."""
  paper = PAPERS[name]
  (run,) = runs.runs(Asked(Path("nowhere"), "tiny", 5, folder), paper, paper.task(task), arm)
  return run.point


@pytest.mark.parametrize("name, task, arm", list(pairs()))
def test_an_arm_s_settings_are_a_config_s(name, task, arm, everywhere):
  made = point(name, task, arm, everywhere)
  assert made.config["replicas"] == runs.BLOCK and made.config["compare"] == []
  assert made.folder.parts[1:3] == (name, task)


@pytest.mark.parametrize("name", PAPERS)
def test_every_experiment_of_a_claim_or_figure_has_a_length(name, everywhere):
  """Steps or rounds; separate training knows steps alone."""
  paper = PAPERS[name]
  for one in (*paper.claims, *paper.figures):
    for task in (task for tasks in one.tasks.values() for task in tasks):
      for arm in claims.arms_of(one):
        made = point(name, task, arm, everywhere).config
        assert (made["steps"] > 0) != (made["rounds"] > 0), (task, arm)
        assert made["steps"] or made["algorithm"] != "separate", (task, arm)


@pytest.mark.parametrize("name", PAPERS)
def test_pooled_data_are_one_clients(name, everywhere):
  """Whatever clients a task sets: several would share them out again."""
  for task in PAPERS[name].tasks:
    for arm, (_, words, _) in PAPERS[name].arms.items():
      if words.partition(",")[0] == "supervised":
        clients = point(name, task.name, arm, everywhere).config["clients"]
        assert [number for number, *_ in clients] == [1], (task.name, arm)


@pytest.mark.parametrize("name", PAPERS)
def test_arms_that_are_compared_are_different_experiments(name, everywhere):
  """Also on a task whose own config is what an arm sets, or for which `by_task` has nothing."""
  for one in (*PAPERS[name].claims, *PAPERS[name].figures):
    compared = [claims.arms_of(one)]
    if isinstance(one, Claim):
      every = (*one.differences, *(c.difference for c in one.controls))
      compared = [{q.arm for q in claims.quantities(difference)} for difference in every]
    for task in (task for tasks in one.tasks.values() for task in tasks):
      for arms in compared:
        made = [json.dumps(point(name, task, a, everywhere).config, sort_keys=True) for a in arms]
        assert len(set(made)) == len(made), (one.name, task, arms)


A, B = Quantity("a"), Quantity("b")
SOUND = Claim(
  "x",
  "Table 1",
  "A.",
  {"tiny": ("t",)},
  (Difference(A, B, 1.0),),
  (Control("c", Difference(A, B, 1.0)),),
)
PAPER = Paper("toy", "", (Task("t", "mhd_digits", 1.0),), {"a": Arm(), "b": Arm()}, (SOUND,))


@pytest.mark.parametrize(
  "claim, said",
  [
    (SOUND._replace(controls=()), "no control"),
    (SOUND._replace(differences=()), "no difference"),
    (SOUND._replace(differences=(Difference(A, Quantity("c"), 1.0),)), "no arm 'c'"),
    (SOUND._replace(tasks={"tiny": ("u",)}), "no task 'u'"),
    (SOUND._replace(tasks={"huge": ("t",)}), "no size 'huge'"),
    (SOUND._replace(differences=(Difference(A, B, 0.0, within=True),)), "above 0"),
    (SOUND._replace(differences=(Difference(A, B, np.nan),)), "finite"),
    (SOUND._replace(differences=(Difference(A, B._replace(paper={"u": 1.0}), 1.0),)), "task 'u'"),
  ],
)
def test_a_declaration_that_cannot_be_judged_is_found(claim, said):
  assert claims.problems(PAPER) == []
  (problem,) = claims.problems(PAPER._replace(claims=(claim,)))
  assert said in problem


def test_an_arm_s_settings_on_a_task_are_over_its_others():
  arm = Arm({"a": 1, "b": 2}, by_task={"t": {"b": 3}})
  assert (arm.on("t"), arm.on("u")) == ({"a": 1, "b": 3}, {"a": 1, "b": 2})
  paper = PAPER._replace(arms={"a": arm, "b": arm._replace(by_task={"u": {}})})
  assert claims.problems(paper) == ["arm b: no task 'u'"]


def test_what_a_paper_reports_is_a_number_for_every_task_or_one_by_task():
  everywhere, there = Quantity("a", paper=54.5), Quantity("a", paper={"t": 54.5})
  assert [everywhere.reported("t"), everywhere.reported("u")] == [54.5, 54.5]
  assert [there.reported("t"), there.reported("u"), A.reported("t")] == [54.5, None, None]


def test_two_of_one_name_are_found():
  line = Lines("x", "", (), "", "", {}, {})
  assert claims.problems(PAPER._replace(figures=(line,))) == ["x is declared twice"]


def test_a_data_set_is_found_in_its_forms_and_what_is_missing_is_said(tmp_path):
  assert data_sets.source("cifar10", None) is None
  assert data_sets.source("cifar10", tmp_path) is None
  (tmp_path / "cifar-10-batches-bin").mkdir()
  assert data_sets.source("cifar10", tmp_path) == f"cifar:{tmp_path}/cifar-10-batches-bin"
  (tmp_path / "cifar10.npz").touch()
  assert data_sets.source("cifar10", tmp_path) == f"npz:{tmp_path}/cifar10.npz"
  paper = PAPER._replace(tasks=(Task("t", "mhd_digits", 1.0, data="letter"),))
  found = runs.runs(Asked(tmp_path, "tiny", 5, tmp_path), paper, paper.task("t"), "a")
  assert isinstance(found, NotHere) and "letter" in found.why


ROOT = Path(__file__).parent.parent.parent


def test_the_record_explains_verdicts_in_the_words_declared():
  """Of docs/results.json; it is written again by the command with --documents, --report-only."""
  declared = {
    (f"{paper.name}.{claim.name}", size, task): claim
    for paper in PAPERS.values()
    for claim in paper.claims
    for size, tasks in claim.tasks.items()
    for task in tasks
  }
  other = []
  for one in files.read_json(ROOT / "docs" / "results.json")["claims"]:
    key = (one["name"], one["size"], one["task"])
    why = declared[key].why(one["task"], one["verdict"]) if key in declared else None
    if why is None or (one["verdict"] != NOT_RUN and one["note"] != why):
      other.append(key)
  assert other == []


@pytest.mark.parametrize("width", [80, 100])
def test_the_list_of_all_papers_and_their_verdicts_fit_the_width(width):
  found = files.read_json(ROOT / "docs" / "results.json")["claims"]
  for text in (listing.text(cli.choose(list(PAPERS)), 5, width), record.text(found, width)):
    assert max(map(len, text.splitlines())) <= width


def test_the_documents_are_those_of_the_record():
  """docs/results.md and the README's part are written by the command, from docs/results.json."""
  found = files.read_json(ROOT / "docs" / "results.json")
  assert (ROOT / "docs" / "results.md").read_text() == documents.page(found)
  readme = (ROOT / "README.md").read_text()
  assert documents.in_readme(readme, found) == readme
