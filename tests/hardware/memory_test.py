"""Whether programs fit, and what is done where they do not."""

import math

import ensembles
import jax
import jax.numpy as jnp
import pytest

from kdjax import needs
from kdjax.hardware import memory

HBM = (
  "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
  "required for HLO temporaries (40.00G) exceeds available HBM (15.75G). HLO module: jit_f."
)


def test_a_programs_need_is_what_goes_in_what_it_uses_and_what_comes_out():
  lowered = jax.jit(lambda x: (x @ x).sum(0)).lower(jnp.ones((64, 64)))
  found = memory.compile(lowered)
  assert found.arguments == 64 * 64 * 4 and found.rest >= 64 * 4
  assert found.need == found.arguments + found.temporaries + found.rest


@pytest.mark.parametrize(
  "said, gib",
  [
    (HBM, 40),
    ("memory space hbm. Used 16.96G of 15.75G hbm. Exceeded", 16.96),
  ],
)
def test_a_compilers_refusal_says_how_much_it_would_need(said, gib):
  assert memory.refused(said, RuntimeError()) == gib * 2**30


@pytest.mark.parametrize(
  "said",
  [
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes.",
    "RESOURCE_EXHAUSTED: Failed to allocate request for 2.00GiB on device ordinal 0",
  ],
)
def test_a_card_that_runs_out_of_memory_while_it_compiles_does_not_say_how_much(said):
  error = RuntimeError(said)
  assert memory.refused(said, error) == math.inf and memory.exhausted(error)


def test_a_chips_scratch_that_is_too_small_is_no_refusal():
  """No other batch or device would mend it."""
  said = "RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem while allocating on stack"
  with pytest.raises(RuntimeError, match="vmem"):
    memory.refused(said, RuntimeError(said))


def test_another_error_is_no_refusal():
  error = ValueError("something else")
  with pytest.raises(ValueError, match="something else"):
    memory.refused(str(error), error)


MESH = dict(map="auto", conv="auto", blocks="unroll", steps_per_dispatch=0, device_tflops=1.0)


def small(remat):
  resnet = dict(depth=18, stem="small")
  mesh = MESH | {"remat": remat}
  return ensembles.build(
    ensembles.config("separate", ((1, "resnet", resnet),), mesh=mesh, dtype="float32")
  )


def test_activations_are_computed_again_only_where_they_do_not_fit(capsys):
  e = small("auto")
  assert needs.fitted(e, limit=2**40) is e and capsys.readouterr().err == ""
  changed = needs.fitted(e, limit=1)
  assert changed.env.cohorts[0].model.remat and changed.hash == e.hash
  assert "activations are recomputed" in capsys.readouterr().err
  assert changed.shapes() == e.shapes()


@pytest.mark.parametrize("fits, remat", [("scan", False), ("nothing", True)])
def test_clients_take_turns_before_activations_are_computed_again(fits, remat, monkeypatch, capsys):
  resnet = dict(depth=18, stem="small")
  clients = ((2, "resnet", resnet),)
  mesh = MESH | {"remat": "auto"}
  e = ensembles.build(ensembles.config("separate", clients, mesh=mesh, dtype="float32"))
  assert e.env.local_map == "vmap"
  monkeypatch.setattr(needs, "_need", lambda tried: 1 if tried.env.local_map == fits else 9)
  changed = needs.fitted(e, limit=5)
  assert (changed.env.local_map, changed.env.cohorts[0].model.remat) == ("scan", remat)
  said = capsys.readouterr().err
  assert "mesh.map='scan'" in said and ("mesh.remat='on'" in said) == remat


def test_whoever_asks_for_a_form_gets_it():
  off, on = map(small, ("off", "on"))
  assert needs.fitted(off, limit=1) is off and not off.env.cohorts[0].model.remat
  assert needs.fitted(on, limit=1) is on and on.env.cohorts[0].model.remat
