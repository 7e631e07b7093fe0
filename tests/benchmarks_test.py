"""The benchmark program: its arithmetic, its tables, and the protocol with small contestants."""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from benchmarks import __main__ as bench
from benchmarks import contest, count, options, settings, tables
from benchmarks.contestants import plain, reading
from benchmarks.suites import accelerator, maps
from benchmarks.suites import input as images
from kdjax import layout
from kdjax.algorithms import mhd
from kdjax.configs import common
from kdjax.models.build import build_model

QUIET = lambda text: None
FAKE = """
import json, sys
spec = json.loads(sys.argv[1])
if spec.get("refuses"):
  raise ValueError("it has no time")
print(json.dumps({"ready": True, "compile_seconds": 0.5}), flush=True)
for n, _ in enumerate(sys.stdin):
  if n == spec.get("dies"):
    sys.exit("it went away")
  with open(spec["log"], "a") as file:
    file.write(spec["name"])
  answer = {"seconds": 2.0 + n}
  if spec.get("parts"):
    answer = {"parts": {"there": 1.0, "back": 3.0 + n}}
  print(json.dumps(answer), flush=True)
print(json.dumps({"peak_rss_bytes": 2**20}), flush=True)
"""


def row(name, seconds, steps=1, images=0, flops=0, **facts):
  return dict(name=name, steps=steps, images=images, flops=flops, seconds=seconds, facts=facts)


def fake(name, tmp_path, **spec):
  spec = dict(spec, name=name, log=str(tmp_path / "log"))
  return contest.Contestant(name, (sys.executable, "-c", FAKE), spec)


def test_times_are_medians_over_blocks_and_ratios_are_ratios_of_medians():
  slow, fast = row("slow", [8.0, 2.0, 4.0], steps=2), row("fast", [0.5, 9.0, 0.25, 1.5])
  assert tables.step_seconds(slow) == 2.0
  assert tables.step_seconds(fast) == 1.0  # between 0.5 and 1.5
  assert tables.ratio(fast, slow) == 0.5


def test_a_table_by_hand():
  rows = [
    row("one", [2.0, 1.0, 4.0], images=64, flops=4e9, compile_seconds=1.25, scratch_bytes=2**21),
    row("two", [0.004], steps=2, images=32, flops=8e9),
    row(tables.PEAK, [1.0], flops=1e10),
    dict(name="three", steps=1, images=0, flops=0, error="a|b"),
  ]
  columns = (
    tables.TIME,
    tables.RATIO,
    tables.IMAGES,
    tables.FLOPS_RATIO,
    tables.OVERHEAD,
    tables.RATE,
    tables.SHARE,
    tables.COMPILE,
    tables.SCRATCH,
  )
  text = tables.table(rows, columns).splitlines()
  assert text[0].startswith(
    "| contestant | time of a step, median (lowest .. highest) | time / first"
  )
  assert text[1] == "|" + " --- |" * 10
  assert text[2:] == [
    "| one | 2 s (1 s .. 4 s) | 1.00 | 32 | 1.00 | 1.00 | 2 | 20 % | 1.2 | 2 |",
    "| two | 2 ms (2 ms .. 2 ms) | 0.00 | 16,000 | 2.00 | 0.00 | 4,000 | 40,000 % |  |  |",
    "| matrix multiplication | 1 s (1 s .. 1 s) |  |  |  |  | 10 | 100 % |  |  |",
    "| three | not run: a/b |  |  |  |  |  |  |  |  |",
  ]


def test_overhead_is_time_over_flops():
  first, other = row("separate", [2.0], flops=1e9), row("mhd", [5.0], flops=2e9)
  assert tables.OVERHEAD.show(other, first, None) == "1.25"


def test_a_table_goes_between_its_markers_and_twice_is_once():
  document = "a\n<!-- x -->\n<!-- /x -->\nb\n<!-- y -->\nold\n<!-- /y -->\n"
  once = tables.insert(document, "y", r"new \1")
  assert once == "a\n<!-- x -->\n<!-- /x -->\nb\n<!-- y -->\nnew \\1\n<!-- /y -->\n"
  assert tables.insert(once, "y", r"new \1") == once
  with pytest.raises(ValueError, match="one pair of markers <!-- z -->"):
    tables.insert(document, "z", "new")


def test_results_join_those_of_other_contests(tmp_path):
  out = tmp_path / "numbers"
  out.with_suffix(".md").write_text("<!-- maps -->\n<!-- /maps -->\n")
  suite = SimpleNamespace(COLUMNS=(tables.TIME,), NOTE="A note.")
  result = lambda seconds: dict(bench.machine(), runs=1, rows=[row("me", [seconds])])
  bench.write(suite, "maps", {"K = 1": result(1.0)}, out)
  bench.write(suite, "maps", {"K = 2": result(2.0)}, out)
  bench.write(suite, "maps", {"K = 1": result(3.0)}, out)
  kept = json.loads((out / "maps.json").read_text())["contests"]
  assert [kept[name]["rows"][0]["seconds"] for name in ("K = 1", "K = 2")] == [[3.0], [2.0]]
  text = out.with_suffix(".md").read_text()
  assert re.findall(r"\| me \| (\d) s", text) == ["3", "2"] and text.count("A note.") == 1
  bench.write(suite, "maps", {}, out)
  assert out.with_suffix(".md").read_text() == text


def test_contestants_take_turns_in_an_order_that_rotates(tmp_path):
  rows = contest.run(contest.Contest("c", tuple(fake(n, tmp_path) for n in "abc")), 4, QUIET)
  assert (tmp_path / "log").read_text() == "abcbcacababc"
  assert [r["seconds"] for r in rows] == [[2.0, 3.0, 4.0, 5.0]] * 3
  assert rows[0]["facts"] == {"compile_seconds": 0.5, "peak_rss_bytes": 2**20}


def test_who_drops_out_says_why_and_the_others_go_on(tmp_path):
  cannot = contest.Contestant("d", (), {}, missing="no interpreter")
  nowhere = contest.Contestant("e", (str(tmp_path / "python"),), {})
  sides = fake("a", tmp_path, refuses=True), fake("b", tmp_path, dies=1), fake("c", tmp_path)
  rows = contest.run(contest.Contest("x", (*sides, cannot, nowhere)), 2, QUIET)
  a, b, c, d, e = rows
  assert a["error"] == "ValueError: it has no time" and b["error"] == "it went away"
  assert c["seconds"] == [2.0, 3.0] and "error" not in c
  assert d["error"] == "no interpreter" and "No such file" in e["error"]


def test_parts_of_a_block_are_rows(tmp_path):
  rows = contest.run(contest.Contest("c", (fake("a", tmp_path, parts=True),)), 2, QUIET)
  assert {r["name"]: r["seconds"] for r in rows} == {"a: there": [1.0, 1.0], "a: back": [3.0, 4.0]}


SLEEPS = """
import json, os, subprocess, sys, time
spec = json.loads(sys.argv[1])
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(spec["log"], "a") as file:
  file.write(f"{os.getpid()} {child.pid}\\n")
if spec["name"] != "slow":
  print(json.dumps({"ready": True}), flush=True)
  sys.stdin.readline()
  print(json.dumps({"seconds": 1.0}), flush=True)
time.sleep(600)
"""


def alive(pid):
  """Whether a process is there, and no zombie."""
  try:
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
  except FileNotFoundError:
    return False


def gone(pids, seconds=10.0):
  """Whether no process is there any more, soon: what is killed takes its time on a busy machine."""
  deadline = time.monotonic() + seconds
  while any(map(alive, pids)) and time.monotonic() < deadline:
    time.sleep(0.05)
  return not any(map(alive, pids))


def sleeper(name, tmp_path):
  return dataclasses.replace(fake(name, tmp_path), command=(sys.executable, "-c", SLEEPS))


def test_a_cut_contest_ends_its_contestants_and_keeps_what_was_timed(tmp_path):
  sides = fake("a", tmp_path, refuses=True), fake("b", tmp_path), sleeper("c", tmp_path)
  said = []

  def log(text):
    said.append(text)
    if "round 2" in text:  # as if it were ended by whoever started it
      contest.cut()

  with pytest.raises(contest.CutError) as error:
    contest.run(contest.Contest("x", sides), 3, log)
  a, b, c = error.value.rows
  assert a["error"] == "ValueError: it has no time"
  assert (b["seconds"], c["seconds"]) == ([2.0], [1.0])
  pids = re.findall(r"\d+", (tmp_path / "log").read_text())
  assert len(pids) == 2 and gone(pids)  # the contestant and its own child


def test_who_is_not_ready_in_time_is_left_out_and_ended(tmp_path):
  sides = fake("a", tmp_path), sleeper("slow", tmp_path)
  a, slow = contest.run(contest.Contest("x", sides), 2, QUIET, ready=4)
  assert len(a["seconds"]) == 2 and slow["error"] == "no answer within 2 s"
  assert gone(re.findall(r"\d\d+", (tmp_path / "log").read_text()))


CUT = """
import sys, types
from benchmarks import __main__ as bench, contest, tables
side = contest.Contestant("s", (sys.executable, "-c", sys.argv[1]), {"name": "s", "log": "log"})
suite = types.SimpleNamespace(
  COLUMNS=(tables.TIME,), NOTE="", contests=lambda options: [contest.Contest("x", (side,))]
)
bench.load = lambda name: suite
bench.main(["maps", "--out=records"])
"""


def test_sigterm_cuts_a_suite_which_writes_what_it_has(tmp_path):
  (tmp_path / "records.md").write_text("<!-- maps -->\n<!-- /maps -->\n")
  command = [sys.executable, "-c", CUT, SLEEPS]  # its second block takes ten minutes
  root = str(pathlib.Path(__file__).parents[1])
  process = subprocess.Popen(
    command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": root}
  )
  with process:
    next(line for line in process.stderr if "round 2" in line)
    process.terminate()
    process.stderr.read()
  assert process.returncode == 143
  (row,) = json.loads((tmp_path / "records" / "maps.json").read_text())["contests"]["x"]["rows"]
  assert row["seconds"] == [1.0]
  assert gone((tmp_path / "log").read_text().split())


def test_a_rival_without_interpreter_says_how_to_get_one():
  none = options.Options(quick=True, clients=(), only="", pythons={})
  side = options.rival(none, "torch", "PyTorch", "torch_step.py", {})
  assert side.command == () and "--python=torch=... (pip install torch" in side.missing


@pytest.mark.parametrize(
  "arguments",
  [[], ["nothing"], ["maps", "--python=haiku=x"], ["maps", "--runs=0"], ["input", "--record"]],
)
def test_a_wrong_command_line_ends_at_once(arguments, capsys):
  with pytest.raises(SystemExit) as end:
    bench.parse(arguments)
  assert end.value.code == 2 and "error" in capsys.readouterr().err


def test_the_list_names_every_suite(capsys):
  bench.main(["--list"])
  assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(bench.SUITES)


class Here(options.Options):
  """A command line on a machine without a GPU."""

  gpu = False


@pytest.mark.parametrize("suite", sorted(set(bench.SUITES) - {"input"}))  # which writes JPEGs
def test_a_suite_without_rivals_names_its_sides_and_says_who_is_missing(suite, monkeypatch):
  monkeypatch.setattr(count, "step_flops", lambda spec: 1.0)  # compiles
  here = Here(quick=True, clients=(), only="", pythons={})
  for one in bench.load(suite).contests(here):
    sides = one.contestants
    assert len({s.name for s in sides}) == len(sides) > 0
    assert all(bool(s.command) != bool(s.missing) for s in sides)


def test_without_a_gpu_no_row_of_the_accelerator_is_run():
  contests = list(accelerator.contests(Here(quick=False, clients=(2,), only="", pythons={})))
  sides = [side for one in contests for side in one.contestants]
  assert len(contests) == 3 and {s.missing for s in sides} == {"no GPU"}
  assert not any(s.command for s in sides)


def test_training_equivalent_images():
  spec = dict(clients=8, batch=6, algorithm="separate")
  assert accelerator.equivalent_images(spec) == 48
  taught = accelerator.equivalent_images(spec | {"algorithm": "mhd"})
  np.testing.assert_allclose(taught, 8 * (6 + 6 + 6 / 3))


@pytest.mark.parametrize("algorithm", ["separate", "mhd", "fedavg"])
def test_configs_have_every_key_that_experiments_have(algorithm):
  spec = dict(model="cnn", clients=2, batch=4, algorithm=algorithm)
  ours, base = settings.config(spec), common.base().to_dict()
  assert ours.keys() == base.keys()
  for key in ("source_info", "overlay", "start", "graph", "optim", "input", "mesh"):
    assert ours[key].keys() == base[key].keys(), key
  if algorithm == "mhd":
    assert ours["algo"].keys() == {field.name for field in dataclasses.fields(mhd.Hyper)}


def test_multiply_adds_of_every_network():
  for name, (model, arguments, norm, image, classes) in settings.MODELS.items():
    network = build_model(
      model, classes=classes, heads=1, norm=norm, dtype="float32", project=0, **arguments
    )
    pixels = np.zeros((1, *image), np.float32)
    forward = lambda pixels, network=network: network.init(jax.random.key(0), pixels, train=False)
    weights = jax.eval_shape(forward, pixels)
    trace = jax.make_jaxpr(lambda w, x, n=network: n.apply(w, x, train=False).logits)
    assert layout.work(trace(weights, pixels).jaxpr) == settings.MACS[name], name


def test_flops_of_k_clients_are_k_times_one(monkeypatch):
  monkeypatch.setattr(count, "_client_flops", lambda spec: json.loads(spec)["batch"] * 10)
  assert count.step_flops(dict(model="mlp", batch=3, algorithm="mhd", clients=4, steps=7)) == 120


class Gpu(options.Options):
  """A command line on a machine with a GPU."""

  gpu = True


@pytest.mark.parametrize(
  "model, K, expected",
  [("resnet20", 8, 7), ("resnet20", 16, 5), ("resnet34", 8, 3), ("mlp", 16, 2)],
)
def test_on_a_gpu_what_would_compile_for_ever_is_left_out(model, K, expected):
  here = Gpu(quick=False, clients=(K,), only="", pythons={})
  assert len(maps.pairs(here, model, K)) == expected


def test_what_pytorch_compiles_is_kept_where_the_environment_says_so(monkeypatch):
  asked = options.Options(quick=True, clients=(), only="", pythons={"torch": "python"})
  side = lambda: options.rival(asked, "torch", "PyTorch", "torch_step.py", {}).environment
  monkeypatch.delenv(options.CACHE, raising=False)
  assert side()["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] == "1"
  monkeypatch.setenv(options.CACHE, "/cache")
  assert side() == options.SHARED | {"TORCHINDUCTOR_CACHE_DIR": "/cache/torch"}


def test_recorded_times_replace_those_of_the_same_setting(tmp_path):
  path = tmp_path / "measured.csv"
  path.write_text(",".join(maps.FIELDS) + "\ntpu,v5,mlp,1,False,2,vmap,direct,False,9,old\n")
  facts = dict(backend="cpu", device="cpu", map="vmap", conv="", mesh=[1, 1])
  result = dict(cpu="Xeon, 2 GHz", commit="c0ffee")

  def record(seconds):
    rows = [row("vmap", [seconds], steps=2, **facts), dict(name="scan", error="died")]
    maps.record({"mlp, K = 2": dict(result, rows=rows)}, path)

  record(0.5)
  record(0.25)
  lines = path.read_text().splitlines()
  work = 32 * settings.MACS["mlp"]
  expected = f"cpu,Xeon  2 GHz,mlp,{work},False,2,vmap,direct,False,125,c0ffee"
  assert lines[1:] == ["tpu,v5,mlp,1,False,2,vmap,direct,False,9,old", expected]


@pytest.mark.filterwarnings("ignore")
def test_the_plain_loop_reads_what_kdjax_reads(tmp_path):
  images.write_photographs(tmp_path / "train" / "class", 2)
  spec = dict(folder=str(tmp_path), images=2, size=64, source=f"folder:{tmp_path}")
  bare = reading.pillow(spec)(np.array([1, 0]))
  ours = reading.source(spec | {"decoder": "pillow"})(np.array([1, 0]))
  np.testing.assert_array_equal(bare, ours)


@pytest.mark.thorough
def test_a_quick_contest(capsys):
  asked = options.Options(quick=True, clients=(2,), only="mlp", pythons={})
  found = bench.run("clients", asked, bench.parse(["clients", "--quick", "--runs=2"]))
  (one,) = found.values()
  alone, _, plainly, fused, _, peak, *rivals = one["rows"]
  assert [len(x["seconds"]) for x in (alone, plainly, fused)] == [2, 2, 2]
  assert min(plainly["seconds"] + fused["seconds"]) > 0
  assert fused["images"] == 64 and peak["flops"] == 2 * 256**3
  # 784 x 128 and 128 x 10: forward and both gradients, no gradient towards the pixels
  products = 2 * 64 * (2 * 784 * 128 + 3 * 128 * 10)
  assert products < fused["flops"] < 1.2 * products
  assert fused["facts"]["scratch_bytes"] > 0 and fused["facts"]["peak_rss_bytes"] > 2**26
  assert all("no interpreter" in rival["error"] for rival in rivals)
  assert "| fused |" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20", "resnet18"])
def test_the_networks_written_without_kdjax_are_the_same(name):
  """Layers of as many weights each."""
  model, arguments, norm, image, classes = settings.MODELS[name]
  env = dict(norm=norm, dtype="float32", project=0)
  ours = build_model(model, classes=classes, heads=1, **env, **arguments)
  sizes = lambda params: sorted(x.size for x in jax.tree.leaves(params))
  images = np.zeros((1, *image), np.float32)
  own = jax.eval_shape(lambda: ours.init(jax.random.key(0), images, train=False))
  other = jax.eval_shape(lambda: plain.Network(name).init(jax.random.key(0), images))
  assert sizes(own["params"]) == sizes(other["params"])
