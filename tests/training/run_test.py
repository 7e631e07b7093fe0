"""A run is a folder: stopping, resuming, claiming it, and using what was trained."""

import json

import chex
import ensembles
import jax
import numpy as np
import pytest
from helpers import usually

import kdjax
from kdjax import config, experiment
from kdjax.core import files
from kdjax.ending import DONE, STOPPED
from kdjax.training import checkpoint, loss_log, resume, run_folder, stored, stretch, writer
from kdjax.training import loop as loops
from kdjax.types import STATUS, ConfigError, TrainingError

TIMES = ("images_per_second", "input_bound")


def run(e, workdir, **kwargs):
  return loops.run(e, workdir, command="python -m kdjax.main", **kwargs)


def metrics(workdir):
  lines = writer.read_metrics(workdir)
  return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def final_state(e, workdir):
  return jax.device_get(stored.state(workdir, run_folder.steps(workdir)[-1], e.shapes()))


def stop_at(call):
  """A `stop` that says yes when it is asked for the call-th time."""
  asked = []

  def stop():
    asked.append(1)
    return len(asked) == call

  return stop


def build(method, *, mesh=1, **changes):
  c = ensembles.config(method, norm="batch", dtype="float32", steps=12, **changes)
  c.mesh.steps_per_dispatch = 1  # so that a stop can come after any step
  return ensembles.build(c, mesh=mesh)


def assert_a_stop_changes_nothing(e, tmp_path, cut):
  assert run(e, tmp_path / "whole") == DONE
  assert run(e, tmp_path / "cut", stop=stop_at(cut)) == STOPPED
  assert run(e, tmp_path / "cut") == DONE
  chex.assert_trees_all_equal(final_state(e, tmp_path / "cut"), final_state(e, tmp_path / "whole"))
  assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")
  summaries = [files.read_json(tmp_path / d / "summary.json") for d in ("cut", "whole")]
  again, first = (summary.pop("compile_seconds") for summary in summaries)
  assert again == 0 < first  # an experiment keeps what it has compiled
  for summary in summaries:
    for key in ("images_per_second", "wall_seconds"):
      assert summary.pop(key) > 0
    assert 0 <= summary.pop("input_bound") <= 1
  assert summaries[0] == summaries[1]


RESUMED = ["mhd pool", "mhd fresh", "fedavg", "fedmd", "kd", "gossip average", "gossip admm"]
RESUMED += ["fedgkt async", "async edge", "pairwise"]
CUTS = [(method, cut) for method in RESUMED for cut in (1, 4)]
USUALLY = [("mhd pool", 3), ("fedgkt async", 1), ("async edge", 4), ("pairwise", 4)]


@pytest.mark.parametrize("method, cut", [*USUALLY, *usually((), set(CUTS) - set(USUALLY))])
def test_a_stopped_run_ends_bit_for_bit_like_one_that_was_not(method, cut, tmp_path):
  assert_a_stop_changes_nothing(build(method), tmp_path, cut)


def test_so_does_one_of_two_cohorts_and_two_replicas_on_four_devices(tmp_path):
  two = ((2, *ensembles.MLP), (2, *ensembles.WIDE))
  e = build("mhd pool", mesh=4, clients=two, replicas=2)
  assert dict(e.env.mesh.shape) == {"client": 4, "data": 1} and e.env.clients == 8
  assert_a_stop_changes_nothing(e, tmp_path, cut=5)


def test_lines_after_the_last_checkpoint_of_a_killed_run_are_written_once(tmp_path):
  """A kill loses what came after the last save: its lines are cut off and written again."""
  e = build("mhd pool", save_every=4)

  def killed():
    if len(writer.read_metrics(tmp_path / "cut")) >= 5:
      raise KeyboardInterrupt
    return False

  with pytest.raises(KeyboardInterrupt):
    run(e, tmp_path / "cut", stop=killed)
  assert run(e, tmp_path / "cut") == DONE
  run(e, tmp_path / "whole")
  assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")


def test_other_dispatch_sizes_and_intervals_change_no_number(tmp_path):
  c = ensembles.config("mhd pool", dtype="float32", steps=12)
  runs = []
  for size, save in ((1, 0), (5, 3)):
    c.mesh.steps_per_dispatch, c.save_every = size, save
    runs.append(tmp_path / str(size))
    e = ensembles.build(c)
    run(e, runs[-1])
  chex.assert_trees_all_equal(*(final_state(e, r) for r in runs))
  assert metrics(runs[0]) == metrics(runs[1])


def test_a_finished_run_is_left_alone(tmp_path):
  e = build("separate")
  run(e, tmp_path)
  before = {p: p.read_bytes() for p in tmp_path.glob("*.json*")}
  assert run(e, tmp_path) == DONE
  assert {p: p.read_bytes() for p in tmp_path.glob("*.json*")} == before


def test_a_folder_of_another_config_is_refused_and_left_alone(tmp_path):
  run(build("separate"), tmp_path)
  before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
  with pytest.raises(ConfigError, match="seed.*was begun with seed = 0"):
    run(build("separate", seed=1), tmp_path)
  assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_other_data_behind_the_same_config_is_refused(tmp_path):
  c = ensembles.config("separate", dtype="float32")
  run(ensembles.build(c), tmp_path, stop=stop_at(1))
  other = lambda: run(ensembles.build(c, data_=ensembles.data(seed=5)), tmp_path)
  with pytest.raises(ConfigError, match="other examples"):
    other()
  record = files.read_json(tmp_path / "config.json")
  files.write_json(tmp_path / "config.json", record | {"data": ""})  # as an older kdjax left it
  with pytest.raises(ConfigError, match="who holds which example"):
    other()


def test_the_last_two_checkpoints_and_the_best_are_kept(tmp_path):
  state = build("separate").init()
  checkpoints = checkpoint.Checkpoints(tmp_path)
  for batches, accuracy in ((10, 0.2), (20, 0.9), (30, None), (40, 0.5), (50, 0.6)):
    checkpoints.save(batches, state, {"hash": ""}, accuracy)
  checkpoints.close()
  kept = {int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
  assert kept == {20, 40, 50}


def test_without_shared_accuracy_the_last_two_checkpoints_are_kept(tmp_path):
  evals = dict(confusion=dict(every=3, batch=16))
  e = build("separate", evals=evals, save_every=3)
  assert run(e, tmp_path) == DONE
  kept = {int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
  assert kept == {9, 12}
  assert "shared_accuracy" not in files.read_json(tmp_path / "summary.json")


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_so_many_snapshots_of_a_client_are_kept(keep, tmp_path):
  e = build("separate")
  state = e.init()
  for batches in range(1, 8):
    checkpoint.publish(tmp_path, state, e.env.cohorts, batches, keep)
    kept = sorted(int(p.name) for p in (tmp_path / "pool" / "3").iterdir())
    assert kept == list(range(max(1, batches + 1 - keep), batches + 1))


def test_published_snapshots_are_the_clients_weights_at_each_refresh(tmp_path):
  e = build("mhd pool", algo_publish=2)
  run(e, tmp_path)
  state = final_state(e, tmp_path)
  for k in range(4):
    assert sorted(p.name for p in (tmp_path / "pool" / str(k)).iterdir()) == ["10", "12"]
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as reader:
      saved = reader.restore(tmp_path / "pool" / str(k) / "12")
    mine = jax.tree.map(lambda x, k=k: x[k], state.clients[0])
    expected = {"params": mine.params, "model_state": mine.model_state}
    chex.assert_trees_all_equal(jax.tree.map(np.asarray, saved), expected)


def infinite():
  """A config whose images are divided by nothing: no client can take a step."""
  c = ensembles.config("separate", dtype="float32", log_every=1, save_every=1)
  c.normalise = dict(mean=(0.5,), std=(1e-39,))  # 0 in float32
  c.mesh.steps_per_dispatch = 1
  return c


def test_losses_that_are_not_finite_stop_the_run_where_nobody_can_go_on(tmp_path):
  with pytest.raises(TrainingError, match="no client's loss is finite at step 1:"):
    run(ensembles.build(infinite()), tmp_path)
  assert run_folder.steps(tmp_path) == []


def test_what_is_saved_of_a_run_that_ends_for_its_clients_is_finite(tmp_path):
  c = infinite()
  c.log_every, c.save_every, c.faults.client = 0, 0, "stop"
  e = ensembles.build(c)
  line = "client 0 had a loss, gradient or statistic that was not finite at step 1, the first of 4"
  with pytest.raises(TrainingError, match=line):
    run(e, tmp_path)
  (saved,) = run_folder.steps(tmp_path)
  state, step, _ = resume.restore(e, tmp_path)
  assert step == saved < e.batches
  chex.assert_tree_all_finite(jax.device_get(state.clients))
  chex.assert_trees_all_equal(state.clients[0].params, e.init().clients[0].params)


@pytest.mark.parametrize("method", ["kd", "pairwise"])
def test_a_client_that_rests_does_not_count_in_the_logged_losses(method, tmp_path, monkeypatch):
  """With batches of 8 the first client has examples for one call of three; two devices."""
  found, send_for = [], loss_log.LossLog.send_for

  def seen(self, visit, aux, *rest):
    found.append(jax.device_get(aux))
    return send_for(self, visit, aux, *rest)

  monkeypatch.setattr(loss_log.LossLog, "send_for", seen)
  c = ensembles.config(
    method, ((1, *ensembles.MLP), (1, *ensembles.WIDE)), dtype="float32", steps=6, log_every=1
  )
  c.mesh.steps_per_dispatch = 1
  e = ensembles.build(c, data_=ensembles.data(2, (8, 24)), mesh=2)
  assert dict(e.env.mesh.shape) == {"client": 1, "data": 2}
  run(e, tmp_path)
  lines = [line for line in metrics(tmp_path) if line["phase"] != "eval"]
  assert len(lines) == 6
  for n, (line, aux) in enumerate(zip(lines, found, strict=True)):
    assert [part["loss"][0] > 0 for part in aux] == [n % 3 == 0, True]
    for name in aux[0].keys() - set(STATUS):
      expected = np.mean([part[name][0] for part in (aux[1:] if n % 3 else aux)])
      assert line[name] == pytest.approx(expected, rel=1e-6)
    assert "live" not in line


def test_a_loaded_client_predicts_as_accurately_as_the_run_says(tmp_path):
  c = ensembles.config("mhd pool", norm="batch", dtype="float32", steps=12)
  c.source_info.update(train=124, test=37)
  c.skew, c.labels, c.batch = 0.0, 1, 1
  e = ensembles.build(c)
  run(e, tmp_path)
  summary = json.loads((tmp_path / "summary.json").read_text())
  test = e.data.source.test
  for k in (0, 3):
    trained = kdjax.load(tmp_path, client=k)
    p = trained.predict(test.array)
    assert trained.heads == ("main", "aux1", "aux2")
    for head in trained.heads:
      np.testing.assert_allclose(np.sum(p[head], -1), 1, rtol=1e-5)
      hit = np.argmax(p[head], -1) == test.labels
      by_class = [hit[test.labels == c].mean() for c in range(ensembles.CLASSES)]
      np.testing.assert_allclose(np.mean(by_class), summary["shared_accuracy"][head][k], rtol=1e-6)
  with pytest.raises(ConfigError, match="client = 4"):
    kdjax.load(tmp_path, client=4)


def test_streamed_images_give_the_same_run_as_resident_ones_and_go_on_after_a_stop(tmp_path):
  import dataclasses

  source, shards = ensembles.data()
  array = source.train.array
  streamed = dataclasses.replace(source.train, array=None, read=lambda index: array[index])
  c = ensembles.config("mhd fresh", dtype="float32", steps=6, algo_aux_heads=1)
  run(ensembles.build(c, data_=(source, shards)), tmp_path / "resident")
  e = ensembles.build(c, data_=(source._replace(train=streamed), shards))
  assert run(e, tmp_path / "read", stop=stop_at(4)) == STOPPED
  assert run(e, tmp_path / "read") == DONE
  assert metrics(tmp_path / "resident") == metrics(tmp_path / "read")


@pytest.fixture
def photos(tmp_path):
  """A folder of twelve small JPEGs in two classes, and a config that reads them as needed."""
  from PIL import Image

  rng = np.random.default_rng(0)
  for split, n in (("train", 4), ("test", 2)):
    for i in range(2 * n):
      path = tmp_path / "photos" / split / "ab"[i % 2] / f"{i}.jpg"
      path.parent.mkdir(parents=True, exist_ok=True)
      pixels = rng.integers(0, 256, (8 + i, 8, 3), dtype=np.uint8)
      Image.fromarray(pixels).save(path, quality=90)
  c = ensembles.config("mhd fresh", clients=((2, *ensembles.MLP),), steps=6, dtype="float32")
  c.source, c.source_resident_bytes = f"folder:{tmp_path}/photos", 0
  c.source_info = dict(train=8, test=4, image=(6, 6, 3), classes=2, resize=True)
  c.partition, c.public_share, c.batch, c.public_batch = "equal", 0.25, 3, 2
  c.algo.teachers, c.algo.aux_heads, c.log_every = 1, 1, 1
  return c


def built(c, **input_):
  c.input.update(input_)
  return experiment.build(c, devices=jax.devices()[:1])


def test_workers_and_stops_change_no_batch(photos, tmp_path):
  """Threads and a whole run; two processes, a stop in the middle, and threads again."""
  whole, cut = tmp_path / "whole", tmp_path / "cut"
  e = built(photos)
  assert run(e, whole) == DONE
  e.config["input"].update(workers=2, ahead=1)
  assert run(e, cut, stop=stop_at(3)) == STOPPED
  e.config["input"].update(workers=0, ahead=3)
  assert run(e, cut) == DONE
  photos.source_resident_bytes = 2**20
  assert run(built(photos), tmp_path / "resident") == DONE
  assert metrics(cut) == metrics(whole) == metrics(tmp_path / "resident")
  for other in (cut, tmp_path / "resident"):
    chex.assert_trees_all_equal(final_state(e, other), final_state(e, whole))
  shares = [line["input_bound"] for line in writer.read_metrics(whole) if line["phase"] == "train"]
  assert len(shares) == 6 and all(0 <= share <= 1 for share in shares) and shares[0] > 0


def test_a_copy_trains_like_what_it_was_made_from(photos, tmp_path):
  from kdjax.data import prepare

  arguments = [f"--out={tmp_path}/copy", "--size=6", "--workers=1"]
  assert prepare.main([photos.source, *arguments]) == DONE
  run(built(photos), tmp_path / "original")
  photos.source = f"records:{tmp_path}/copy"
  run(built(photos), tmp_path / "records")
  assert metrics(tmp_path / "records") == metrics(tmp_path / "original")


def test_settings_of_the_input_are_checked_before_work(photos, tmp_path):
  with pytest.raises(ConfigError, match="input.workers = -1: must not be negative"):
    run(built(photos, workers=-1), tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_an_image_that_breaks_while_training_is_named(photos, tmp_path):
  e = built(photos)
  folder = tmp_path / "photos" / "train"
  for path in folder.rglob("*.jpg"):
    path.write_bytes(b"no image")
  with pytest.raises(TrainingError, match="images cannot be read.*jpg is no image that Pillow can"):
    run(e, tmp_path / "run")


def test_losses_are_written_while_the_next_step_computes(tmp_path, monkeypatch):
  """A line is written after the next dispatch; what follows an evaluation finds it there."""
  e, events = build("separate", save_every=4), []
  advance, write = stretch.Stretch.advance, writer.Writer.write

  def advanced(self, state, visit, *rest):
    events.append("step")
    return advance(self, state, visit, *rest)

  def written(self, step, phase, numbers):
    events.append(f"{phase} {step}")
    return write(self, step, phase, numbers)

  monkeypatch.setattr(stretch.Stretch, "advance", advanced)
  monkeypatch.setattr(writer.Writer, "write", written)
  run(e, tmp_path)
  four = ["step", "step", "step", "train {0}", "step", "train {1}", "eval {1}"]
  assert events == [x.format(n + 2, n + 4) for n in (0, 4, 8) for x in four]


def test_config_json_holds_what_is_needed_to_run_it_again(tmp_path):
  e = build("separate")
  run(e, tmp_path)
  record = files.read_json(tmp_path / "config.json")
  assert record["config"] == e.config and record["hash"] == e.hash
  assert record["versions"]["jax"] == jax.__version__
  assert config.plain(record["config"]) == e.config


def test_the_times_of_a_resumed_run_are_the_whole_runs(tmp_path, monkeypatch):
  """What the checkpoint says of the first stretch is added to the second's own."""
  e = build("separate")
  assert run(e, tmp_path, stop=stop_at(3)) == STOPPED
  first = {"images": 3_000_000, "working": 1000, "waited": 500, "compiled": 2000, "wall": 4000}
  meta = stored.meta

  def earlier(workdir, batches):
    found = meta(workdir, batches)
    assert set(found["spent"]) == set(first) and found["spent"]["images"] == 3 * 4 * 8
    return found | {"spent": first}

  monkeypatch.setattr(stored, "meta", earlier)
  assert run(e, tmp_path) == DONE
  said = files.read_json(tmp_path / "summary.json")
  assert 2000 <= said["compile_seconds"] < 2500 and 4000 < said["wall_seconds"] < 4500
  assert 2000 < said["images_per_second"] < 3001 and 0.3 < said["input_bound"] < 0.7


ALONG_A_GRAPH = {"mhd", "kd", "gossip", "pairwise"}


@pytest.mark.parametrize("method", ensembles.METHODS)
def test_only_methods_that_learn_along_the_graph_say_so(method):
  e = ensembles.build(ensembles.config(method, dtype="float32"))
  assert e.algorithm.uses_graph == (e.config["algorithm"] in ALONG_A_GRAPH)


@pytest.mark.parametrize("method, expected", [("separate", 0), ("mhd fresh", 2)])
def test_a_summary_has_edges_and_distances_only_where_there_is_a_graph(method, expected, tmp_path):
  run(build(method), tmp_path)
  summary = files.read_json(tmp_path / "summary.json")
  assert len({"edges", "accuracy_by_distance"} & set(summary)) == expected
