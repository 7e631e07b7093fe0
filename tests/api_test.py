"""The library: a config from a name, one's own loop, one call, and what is left behind."""

import json
import subprocess
import sys
import warnings

import ensembles
import jax
import numpy as np
import pytest

import kdjax
from kdjax.ending import DONE
from kdjax.training import loop
from kdjax.types import ConfigError

SMALL = {"steps": 6, "replicas": 1, "log_every": 2, "evals.accuracy.every": 6, "compare": ()}
SMALL |= {"model.norm": "none", "algo.nu_emb": 0.0}
SMALL |= {"clients": ((5, "mlp", {"hidden": (8, 8), "activation": "tanh"}),)}


def test_importing_loads_nothing_and_building_neither_plots_nor_checkpoints():
  """Flax loads rich, scikit-learn pandas."""
  code = (
    "import sys, kdjax; assert 'jax' not in sys.modules\n"
    "kdjax.build(kdjax.get_config('mhd_digits', steps=2)); kdjax.Stepper; kdjax.load; kdjax.train\n"
    "print([m for m in ('matplotlib', 'orbax', 'tensorboardX') if m in sys.modules])"
  )
  out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert out.stdout == "[]\n", out.stderr


def test_a_config_takes_changes_by_dotted_keys_and_refuses_others():
  c = kdjax.get_config("mhd_digits", steps=7, **{"algo.teachers": 2, "graph.kind": "cycle"})
  assert (c.steps, c.algo.teachers, c.graph.kind) == (7, 2, "cycle")
  assert kdjax.get_config(c).to_dict() == c.to_dict()
  own = kdjax.get_config({"steps": 3, "graph.kind": "chain", "clients": ((1, "mlp", {}),)})
  assert (own.steps, own.graph.kind, own.batch) == (3, "chain", 32)
  for key in ("stps", "graph.knd", "no.such"):
    with pytest.raises(ConfigError, match=key):
      kdjax.get_config("mhd_digits", **{key: 1})


WRONG_KEYS = [
  ("mhd_digits", {"step": 3}, "^step = 3: no such key; did you mean steps.$"),
  ("mhd_digits", {"graph.evry": 3}, "^graph.evry = 3: no such key; did you mean every.$"),
  ("mhd_digits", {"algo.teecher": 3}, "^algo.teecher = 3: no such key; did you mean teachers.$"),
  ("mhd_digits", {"algo": {"teecher": 3}}, "^algo.teecher = 3: no such key; did you mean"),
  (
    "mhd_digits",
    {"algo.u": 3, "algorithm": "fedavg"},
    "^algo.u = 3: no such key; there are: local_steps, lo",
  ),
  ({"algorithm": "fedavg", "algo.local_step": 3}, {}, "^algo.local_step = 3: .*mean local_steps"),
]


@pytest.mark.parametrize("config, changes, match", WRONG_KEYS)
def test_a_key_that_is_nearly_one_is_refused_with_the_one(config, changes, match):
  with pytest.raises(ConfigError, match=match):
    kdjax.get_config(config, **changes)


def test_a_methods_own_keys_are_taken_though_the_config_leaves_them_out():
  own = {"algorithm": "fedavg", "algo.local_steps": 3, "algo.momentum": "keep"}
  assert kdjax.get_config(own).algo.to_dict() == {"local_steps": 3, "momentum": "keep"}
  c = kdjax.get_config("mhd_digits", algorithm="fedavg", algo={"local_steps": 3})
  assert c.algo.to_dict() == {"local_steps": 3}
  c = kdjax.get_config("mhd_digits", algorithm="fedavg")  # its algo may be set later
  assert c.algorithm == "fedavg"


class Net:
  """What somebody puts into `clients` in place of its name."""


def test_a_class_in_a_config_is_refused_with_the_name_to_write(tmp_path):
  config = kdjax.get_config("mhd_digits", clients=((5, Net, {}),))
  with pytest.raises(ConfigError, match=f"^clients = .*'{__name__}:Net'.*'__main__:Net'"):
    kdjax.train(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("data", [(np.zeros((9, 2)), np.zeros(9, int)), np.zeros((9, 2)), {}])
def test_data_that_is_not_wrapped_is_refused_with_how(data, tmp_path):
  for call in (
    lambda: kdjax.train("mhd_digits", tmp_path / "run", data=data),
    lambda: kdjax.build("mhd_digits", data=data),
  ):
    with pytest.raises(ConfigError, match=r"^data = .*kdjax.arrays\(train=\(X, y\), \.\.\.\)"):
      call()
  assert not (tmp_path / "run").exists()


def test_hyper_parameters_come_on_top_of_those_of_the_same_method_only():
  c = kdjax.get_config("mhd_digits", algo={"teachers": 3})
  assert c.algo.teachers == 3 and c.algo.aux_heads == kdjax.get_config("mhd_digits").algo.aux_heads
  assert "aux_heads" not in kdjax.get_config("mhd_digits", algorithm="separate", algo={}).algo
  with pytest.raises(ConfigError, match="^algo = .*: another method's: fedavg takes local_steps"):
    kdjax.build(kdjax.get_config("mhd_digits", algorithm="fedavg"))


def test_curves_have_a_column_for_every_seed(tmp_path):
  """Their mean is the log's, and the last point what the seed's clients ended with."""
  changes = SMALL | {"replicas": 2, "evals.accuracy.every": 3}
  run = kdjax.train(kdjax.get_config("mhd_digits", **changes), tmp_path, devices=jax.devices()[:1])
  curves = run.curves()
  assert list(curves) == ["aux1", "aux2", "aux3", "main"]
  lines = [line for line in run.metrics() if line["phase"] == "eval"]
  for head, (steps, values) in curves.items():
    assert steps.tolist() == [3, 6] and values.shape == (2, 2)
    logged = [line[f"shared_accuracy/{head}"] for line in lines]
    np.testing.assert_allclose(values.mean(1), logged, rtol=1e-6)
    for r, result in enumerate(run.summary["runs"]):
      np.testing.assert_allclose(values[-1, r], np.mean(result["shared_accuracy"][head]), rtol=1e-6)
  with pytest.raises(
    ConfigError, match="^key = 'shraed': not in the log, which has .*shared_accura"
  ):
    run.curves("shraed")


def test_a_grid_is_a_run_for_every_point_and_resumes(tmp_path):
  config = kdjax.get_config("mhd_digits", **SMALL)
  grid = {"algo.teachers": (1, 2), "optim.lr": (0.02,)}
  for _ in range(2):
    points = kdjax.train_grid(config, tmp_path, grid, devices=jax.devices()[:1])
    assert [one for one, _ in points] == [{"algo.teachers": n, "optim.lr": 0.02} for n in (1, 2)]
    assert [run.config["algo"]["teachers"] for _, run in points] == [1, 2]
    assert all(run.curves()["main"][1].shape == (1, 1) for _, run in points)
  assert len(list(tmp_path.iterdir())) == 2
  with pytest.raises(ConfigError, match="^steps = -1"):
    kdjax.train_grid(config, tmp_path, {"steps": (3, -1)})
  assert len(list(tmp_path.iterdir())) == 2  # before the first has begun


def test_ones_own_loop_takes_the_steps_of_a_run(tmp_path):
  """Three ways to the same weights: batch by batch, dispatch by dispatch, in one call."""
  config = kdjax.get_config("mhd_digits", **SMALL, **{"algo.refresh_every": 2})
  experiment = kdjax.build(config, devices=jax.devices()[:1])
  stepper = kdjax.Stepper(experiment)
  state, losses = stepper.init(), []
  while not stepper.done(state):
    state, found = stepper.step(state)
    losses.append(found)
  assert len(losses) == 6 and int(state.calls) == 6 + 3  # three refreshes
  assert set(losses[0]) == {"loss", "cross_entropy", "aux1", "aux2", "aux3"}
  whole, _ = ensembles.train(experiment, stepper=stepper)
  run = kdjax.train(config, tmp_path, devices=jax.devices()[:1])
  logged = [line["loss"] for line in run.metrics() if line["phase"] == "train"]
  np.testing.assert_allclose(logged, [found["loss"] for found in losses[1::2]], rtol=1e-6)
  for k, (params, _) in enumerate(ensembles.by_client(experiment, state)):
    jax.tree.map(
      np.testing.assert_array_equal, params, ensembles.by_client(experiment, whole)[k][0]
    )
    jax.tree.map(np.testing.assert_array_equal, params, run.client(k).params)
  assert stepper.evaluate(state)[0]["shared_accuracy"] == run.summary["shared_accuracy"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A short run of five clients with a baseline, two seeds."""
  changes = SMALL | {"replicas": 2, "compare": ("separate",)}
  return kdjax.train(kdjax.get_config("mhd_digits", **changes), tmp_path_factory.mktemp("run"))


def test_the_progress_names_the_variant_that_trains(tmp_path, capfd):
  changes = {"steps": 2, "replicas": 1, "clients": SMALL["clients"], "model.norm": "none"}
  changes["compare"] = {"fast": {"optim": {"lr": 0.1}}}
  kdjax.train(kdjax.get_config("mhd_digits:separate", **changes), tmp_path)
  lines = [line for line in capfd.readouterr().err.splitlines() if "step 2/2" in line]
  names = [line.partition("  ")[0] for line in lines]
  assert list(dict.fromkeys(names)) == ["separate on digits", "fast on digits"]


def test_results_are_plain_rows(run):
  rows = run.results()
  assert len([r for r in rows if r["client"] >= 0]) == 2 * 5 * 4  # seeds, clients, heads
  ensembles = [r for r in rows if r["client"] < 0]
  assert len(ensembles) == 2 * 4 and all("ensemble_accuracy" in r for r in ensembles)
  rows = [r for r in rows if r["client"] >= 0]
  keys = {"run", "seed", "client", "head", "private_accuracy", "shared_accuracy"}
  assert all(keys <= set(row) for row in rows)
  (one,) = [r for r in rows if (r["seed"], r["client"], r["head"]) == (1, 3, "aux2")]
  assert one["shared_accuracy"] == run.summary["runs"][1]["shared_accuracy"]["aux2"][3]
  assert list(run.baselines) == ["separate"]
  assert len(run.baselines["separate"].results()) == 2 * 5 + 2
  assert {line["step"] for line in run.metrics()} == {2, 4, 6}
  frame = kdjax.frame(rows)
  assert len(frame) == len(rows) and frame["head"].nunique() == 4


def images(n=4):
  from sklearn.datasets import load_digits

  return (load_digits().images[:n, ..., None] * 255 / 16).astype(np.uint8)


def test_a_trained_client_predicts_embeds_and_exports(run, tmp_path):
  client = kdjax.load(run.workdir, client=7)
  x = images()
  p, z = client.predict(x), client.logits(x)
  for head in client.heads:
    np.testing.assert_allclose(p[head], jax.nn.softmax(z[head]), rtol=1e-6)
  hidden = np.tanh
  layers = [client.params[f"Dense_{i}"] for i in range(2)]
  h = x.reshape(4, -1) / 127.5 - 1
  for layer in layers:
    h = hidden(h @ layer["kernel"] + layer["bias"])
  np.testing.assert_allclose(client.embed(x), h, rtol=1e-4, atol=1e-5)
  main = client.params["heads"]["main"]
  np.testing.assert_allclose(z["main"], h @ main["kernel"] + main["bias"], rtol=1e-4, atol=1e-5)
  for ending in ("npz", "safetensors"):
    path = client.export(tmp_path / f"client.{ending}")
    if ending == "npz":
      arrays = dict(np.load(path, allow_pickle=False))
    else:
      from safetensors.numpy import load_file

      arrays = load_file(path)
    np.testing.assert_array_equal(arrays["params/Dense_0/kernel"], layers[0]["kernel"])
    sizes = [x.size for x in jax.tree.leaves(client.params)]
    assert sum(a.size for a in arrays.values()) == sum(sizes)
  with pytest.raises(ConfigError, match="npz or .safetensors"):
    client.export(tmp_path / "client.pt")
  with pytest.raises(ConfigError, match="there is no folder '.*nowhere'"):
    client.export(tmp_path / "nowhere" / "client.npz")


def test_a_row_of_the_results_names_its_client(run):
  jax.tree.map(np.testing.assert_array_equal, run.client(2, seed=1).params, run.client(7).params)
  with pytest.raises(ConfigError, match="seed = 2: must be one of 0, 1"):
    run.client(0, seed=2)
  with pytest.raises(ConfigError, match="client = 5: must lie in 0..4"):
    run.client(5, seed=0)


def test_a_seeds_clients_are_its_models(tmp_path):
  """A core and its edge, whoever of the holders they visit."""
  with jax.enable_x64(False):
    c = ensembles.config("async edge", replicas=2, dtype="float32")
    c.steps, c.rounds = 0, 1
    e = ensembles.build(c)
    assert loop.run(e, tmp_path, command="") == DONE
    run, K = kdjax.Run(tmp_path), e.env.K
    assert e.env.population.holders > K
    same = run.client(0, seed=1).params, kdjax.load(tmp_path, client=K).params
    jax.tree.map(np.testing.assert_array_equal, *same)
    with pytest.raises(ConfigError, match=f"client = {K}: must lie in 0..{K - 1}"):
      run.client(K, seed=0)


@pytest.mark.parametrize(
  "change, match",
  [
    (lambda x: x[:, :, 0], r"images.shape = \(4, 8, 1, 1\): .* \[N, 8, 8, 1\]"),
    (lambda x: np.repeat(x, 3, -1), r"\(4, 8, 8, 3\)"),
    (lambda x: x[:, :7], r"\(4, 7, 8, 1\)"),
    (lambda x: x / np.float32(255), "images.dtype = 'float32': .* uint8, 0 to 255"),
    (lambda x: x.astype(np.int64), "images.dtype = 'int64'"),
  ],
)
def test_what_it_cannot_have_been_trained_on_is_refused(run, change, match):
  with pytest.raises(ConfigError, match=match):
    run.client(0).predict(change(images()))


def test_values_far_from_the_training_datas_are_warned_of(run):
  client = run.client(0)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    client.predict(images(64))
  for use in (client.predict, client.logits, client.embed):
    with pytest.warns(UserWarning, match="values of 0 to 1.*training data's were 0 to 255") as seen:
      use(images(64) // 16)  # digits in 0..16
    assert seen[0].filename == __file__  # the user's line, not the library's


def test_a_folder_that_is_no_run_is_refused_and_an_unfinished_one_has_no_results(tmp_path):
  with pytest.raises(ConfigError, match="not a run's folder"):
    kdjax.Run(tmp_path)
  (tmp_path / "config.json").write_text(json.dumps({"config": {}}))
  unfinished = kdjax.Run(tmp_path)
  assert unfinished.summary is None and unfinished.metrics() == []
  with pytest.raises(ConfigError, match="has not finished"):
    unfinished.results()
