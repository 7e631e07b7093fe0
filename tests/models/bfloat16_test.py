"""What bfloat16 means: narrow convolutions and products; what is kept or compared stays wide."""

import pkgutil

import ensembles
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models_test import COMMON, SMALL, abstract, trainer

import kdjax.models
from kdjax import plan
from kdjax.models.build import build_model

SERVER = ("gkt_resnet:Server", (dict(depth=55), (6, 6, 16)))
MODELS = dict([*((name, spec[:2]) for name, spec in SMALL.items()), SERVER])


def products(jaxpr, path=""):
  """(whether a head's, operand dtypes) of every convolution and matrix product, loops entered."""
  for equation in jaxpr.eqns:
    here = f"{path}/{equation.source_info.name_stack}"
    if equation.primitive.name in ("dot_general", "conv_general_dilated"):
      yield "heads" in here, {v.aval.dtype for v in equation.invars}
    for value in equation.params.values():
      for inner in value if isinstance(value, (tuple, list)) else (value,):
        inner = getattr(inner, "jaxpr", inner)
        if hasattr(inner, "eqns"):
          yield from products(inner, here)


def test_every_file_of_models_is_in_the_table():
  files = {m.name for m in pkgutil.iter_modules(kdjax.models.__path__)} - set(kdjax.models.SHARED)
  assert files == {name.partition(":")[0] for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
def test_products_are_narrow_but_for_the_heads_and_all_that_is_kept_is_wide(name):
  arguments, image = MODELS[name]
  model = build_model(name, **(COMMON | arguments | dict(heads=2, dtype="bfloat16")))
  images, mask = np.ones((4, *image), np.float32), np.ones(4, np.float32)
  variables = abstract(model, images)
  traced = trainer(model).trace(variables, images, mask)
  (loss, (out, statistics)), grads = traced.out_info
  wide = jax.tree.leaves((variables, loss, out.embedding, out.logits, statistics, grads))
  assert {x.dtype for x in wide} == {np.dtype("float32")}
  found = list(products(traced.jaxpr.jaxpr))
  body = [dtypes for is_head, dtypes in found if not is_head]
  assert body and all(dtypes == {jnp.dtype("bfloat16")} for dtypes in body)
  # Forward, and the gradients of kernel and embedding, of two heads.
  heads = [dtypes for is_head, dtypes in found if is_head]
  assert heads == [{np.dtype("float32")}] * 6


def test_a_step_keeps_its_state_and_its_losses_in_float32():
  c = ensembles.config("mhd pool", ((2, *ensembles.CNN),), norm="batch", dtype="bfloat16")
  e = ensembles.build(c)
  for visit in plan.first_visits(e):
    state, aux = plan.lower(e, visit).out_info
    kept = jax.tree.leaves((state.clients, state.local, aux))
    assert {x.dtype for x in kept if x.dtype.kind not in "ib"} == {np.dtype("float32")}
