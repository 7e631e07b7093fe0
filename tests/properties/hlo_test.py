"""What MHD's step of convolutional clients holds, before compilation.

What every method's programs hold is a property of `kdjax.testing`; what the compiler makes of them
is in meshes_test.py.
"""

import re

import ensembles
import pytest

from kdjax.testing.programs import lowered


def on_mesh(local_map, mesh):
  """MHD's training step, of four convolutional clients."""
  c = ensembles.config(
    "mhd pool", ((4, "cnn", dict(widths=(8, 8))),), norm="batch", dtype="float32"
  )
  c.mesh.steps_per_dispatch, c.mesh.conv = 1, "direct"
  return lowered(c, mesh, local_map)[1]["train"]


def test_any_number_of_devices_shares_the_whole_step():
  """The optimiser's work too: it is small beside the convolutions'."""
  whole, *parts = (on_mesh("unroll", n).cost_analysis()["flops"] for n in (1, 2, 4, 8))
  for mesh, part in zip((2, 4, 8), parts, strict=True):
    assert part * mesh <= 1.05 * whole


@pytest.mark.parametrize("local_map, grouped", [("scan", False), ("unroll", False), ("vmap", True)])
def test_convolutions_are_grouped_under_vmap_only(local_map, grouped):
  """Why `auto` is not `vmap` for networks with convolutions."""
  groups = set(re.findall(r"feature_group_count = (\d+)", on_mesh(local_map, 1).as_text()))
  assert groups == ({"4"} if grouped else {"1"})
