"""Heads that say one class for everything are named, once, wherever a run is looked at."""

import dataclasses

import ensembles
import jax
import numpy as np
import pytest

from kdjax.core import files
from kdjax.ending import DONE, STOPPED
from kdjax.report import page, table
from kdjax.training import collapse, loop, writer

K, C = 4, ensembles.CLASSES


def blank():
  """Data whose test images are all alike, of four classes: a model can only say one of them."""
  source, shards = ensembles.data()
  alike = dataclasses.replace(source.test, array=np.zeros_like(source.test.array))
  return source._replace(test=alike), shards


def build(method="mhd fresh", data=None, **changes):
  c = ensembles.config(method, dtype="float32", **changes)
  c.optim.lr, c.save_every, c.mesh.steps_per_dispatch = 1e-6, 4, 1
  return ensembles.build(c, data_=data or blank())


def only(shards, client, label):
  """The same parts, as if a client's were all of one class."""
  counts = shards.label_counts.copy()
  counts[client] = np.where(np.arange(C) == label, counts[client].sum(), 0)
  return dataclasses.replace(shards, label_counts=counts)


def found(heads, replicas=1):
  """What an evaluation finds; heads {name: K rows of predictions by class}."""
  return [{"predictions_by_class": heads}] * replicas


SPREAD, ALL_2, ALL_1 = [10, 9, 9, 9], [0, 0, 37, 0], [0, 37, 0, 0]


def test_twice_in_a_row_is_named_once():
  watch = collapse.CollapseMonitor(build())
  fine = found({"main": [SPREAD] * K})
  bad = found({"main": [SPREAD, SPREAD, SPREAD, ALL_2]})
  other = found({"main": [SPREAD, SPREAD, SPREAD, ALL_1]})
  assert watch.note(10, bad) == [] and watch.note(20, fine) == []
  assert watch.note(30, bad) == [] and watch.note(40, other) == []  # two classes: it moves
  assert watch.note(50, bad) == []
  assert watch.note(60, bad) == [collapse.Collapse(0, 3, "main", 2, 50, 60)]
  assert watch.note(65, [{"linear_probe": {"shared": [0.5] * K}}]) == []  # nothing was counted
  assert watch.note(70, bad) == [] and watch.note(80, fine) == []
  name = {"replica": 0, "client": 3, "head": "main", "class": 2, "since": 50}
  assert watch.summary() == [name | {"until": 70}]


def test_clients_have_global_numbers_and_servers_none():
  watch = collapse.CollapseMonitor(build(replicas=2, data=(blank()[0], ensembles.data(R=2)[1])))
  bad = found({"aux1": [SPREAD, ALL_2, SPREAD, SPREAD], "server/main": [ALL_1]}, replicas=2)
  watch.note(1, bad)
  named = [(x.replica, x.client, x.head, x.label) for x in watch.note(2, bad)]
  assert named == [
    (0, 1, "aux1", 2),
    (0, None, "server/main", 1),
    (1, 5, "aux1", 2),
    (1, None, "server/main", 1),
  ]


def test_who_holds_one_class_may_say_it_but_no_other():
  source, shards = blank()
  watch = collapse.CollapseMonitor(build(data=(source, only(shards, 1, label=2))))
  for label, named in ((2, []), (1, [1])):
    row = [37 * (c == label) for c in range(C)]
    bad = found({"main": [SPREAD, row, SPREAD, SPREAD]})
    watch.note(10, bad)
    assert [x.client for x in watch.note(20, bad)] == named


def test_nobody_is_named_where_one_class_is_tested():
  source, shards = blank()
  same = dataclasses.replace(source.test, labels=np.full_like(source.test.labels, 2))
  watch = collapse.CollapseMonitor(build(data=(source._replace(test=same), shards)))
  bad = found({"main": [ALL_2] * K})
  assert watch.note(10, bad) == watch.note(20, bad) == []


def test_heads_that_nobody_teaches_are_not_named():
  e = build(graph=dict(kind="none", every=0, island=2, degree=2, edges=(), seed=0))
  watch = collapse.CollapseMonitor(e)
  bad = found({"main": [ALL_2] * K, "aux1": [ALL_2] * K})
  watch.note(10, bad)
  assert {x.head for x in watch.note(20, bad)} == {"main"}


def test_predictions_are_counted_by_class():
  e = build(data=ensembles.data())
  state = e.init()
  (out,) = e.evaluators["accuracy"][1](state)
  test = e.data.source.test
  x = test.array.reshape(37, -1) / 255 * 2 - 1
  for k, (params, _) in enumerate(ensembles.by_client(e, state)):
    h = np.tanh(x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
    for head in ("main", "aux1", "aux2"):
      dense = params["heads"][head]
      said = (h @ dense["kernel"] + dense["bias"]).argmax(-1)
      counted = out["predictions_by_class"][head][k]
      assert counted == np.bincount(said, minlength=C).tolist()


@pytest.fixture(scope="module")
def collapsed(tmp_path_factory):
  """(experiment, folder) of a run of two evaluations, stopped and resumed between them."""
  e, place = build(), tmp_path_factory.mktemp("collapsed")
  asked = []
  assert loop.run(e, place, command="", stop=lambda: asked.append(1) or len(asked) == 5) == STOPPED
  lines = writer.read_metrics(place)
  assert any(x["phase"] == "eval" for x in lines)
  assert not any(x["phase"] == "collapse" for x in lines)
  return e, place


def test_a_collapsed_head_stands_in_log_summary_table_and_page(collapsed, capsys):
  e, place = collapsed
  assert loop.run(e, place, command="") == DONE
  (state,) = jax.device_get(ensembles.train(e)[0].clients)
  expected = set()
  for k in range(K):  # of a blank image, by hand
    one = jax.tree.map(lambda x, k=k: x[k], state.params)
    h = np.tanh(-one["Dense_0"]["kernel"].sum(0) + one["Dense_0"]["bias"])
    for head in e.env.heads:
      z = h @ one["heads"][head]["kernel"] + one["heads"][head]["bias"]
      expected.add((k, head, int(z.argmax())))
  lines = [x for x in writer.read_metrics(place) if x["phase"] == "collapse"]
  keys = [next(k for k in x if k.startswith("class/")) for x in lines]
  assert {(x["client"], k[6:], x[k]) for x, k in zip(lines, keys, strict=True)} == expected
  assert {(x["step"], x["since"], x["replica"]) for x in lines} == {(8, 4, 0)}
  summary = files.read_json(place / "summary.json")["collapsed"]
  assert {(x["client"], x["head"], x["class"]) for x in summary} == expected
  assert {(x["since"], x["until"]) for x in summary} == {(4, 8)}
  label = next(c for k, head, c in expected if (k, head) == (0, "main"))
  said = capsys.readouterr().err
  assert said.count("kdjax: collapsed") == 1
  (line,) = (x for x in said.splitlines() if x.startswith("kdjax: collapsed"))
  start = "kdjax: collapsed, one class for every test example since step 4: "
  assert line.startswith(f"{start}client 0's head main (class {label}), ")
  assert all(f"client {k}'s head {head} (class {c})" in line for k, head, c in expected)
  assert line.count("(class ") == len(expected) == 12
  assert "normalise.mean=('data',) and normalise.std=('data',)" in line
  words = f"12 heads predicted one class for everything: client 0 main: class {label} since step 4;"
  text = " ".join(table.closing_table(place).split())
  assert words in text and "and 8 more" in text
  assert words in page.write_report(place).read_text()


def test_an_unfinished_runs_page_names_them_too(collapsed, tmp_path):
  _, place = collapsed
  (tmp_path / "config.json").write_bytes((place / "config.json").read_bytes())
  with writer.Writer(tmp_path, resume_step=None) as log:
    collapse.report([collapse.Collapse(0, 2, "aux1", 3, 4, 8)], log, 8)
    collapse.report([], log, 12)  # says nothing
  assert "a head predicted one class for everything: client 2 aux1: class 3 since step 4." in (
    page.write_report(tmp_path).read_text()
  )
