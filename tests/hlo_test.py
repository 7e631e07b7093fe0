"""What the compiled training step holds: no waste by sharding, no grouped convolution."""

import ensembles
import jax
import pytest

from kdjax import plan

CLIENTS = ((4, "cnn", dict(widths=(8, 8))),)


def lowered(how, mesh):
  c = ensembles.config("mhd pool", CLIENTS, norm="batch", dtype="float32")
  c.mesh.steps_per_dispatch = 1
  e = ensembles.build(c, how=how, mesh=mesh)
  visit = plan.first_visits(e)[0]
  assert visit.phase.name == "train"
  return plan.lower(e, visit)


@pytest.mark.parametrize("mesh", [2, 4])
def test_devices_share_the_work_and_training_communicates_nothing_but_sums(mesh):
  whole = lowered("unroll", 1).cost_analysis()["flops"]
  parts = lowered("unroll", mesh)
  assert parts.cost_analysis()["flops"] * mesh <= 1.05 * whole
  text = parts.compile().as_text()
  for collective in ("all-gather", "collective-permute", "all-to-all"):
    assert collective not in text


@pytest.mark.parametrize("how, grouped", [("scan", False), ("unroll", False), ("vmap", True)])
def test_convolutions_are_grouped_under_vmap_only(how, grouped):
  """Why `auto` is not `vmap` for networks with convolutions."""
  text = lowered(how, 1).compile().as_text()
  assert ("feature_group_count=4" in text) == grouped
  assert jax.default_backend() == "cpu"  # other backends write their convolutions otherwise
