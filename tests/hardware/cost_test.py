"""What a call costs, by hand and beside XLA's own count."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.hardware import hlo
from kdjax.hardware.collectives import groups
from kdjax.hardware.cost import cost
from kdjax.hardware.target import parse

PROGRAMS = Path(__file__).parent / "programs"
H100, V5E = parse("h100:8"), parse("v5e:2x4")


def priced(text, target=H100):
  return cost(hlo.parse(text), target)


def conv(x, w, **how):
  numbers = ("NHWC", "HWIO", "NHWC")
  return jax.lax.conv_general_dilated(x, w, dimension_numbers=numbers, **how)


WINDOWS = {
  "same": dict(window_strides=(1, 1), padding="SAME"),
  "strided": dict(window_strides=(2, 2), padding=((1, 1), (1, 1))),
  "valid": dict(window_strides=(1, 1), padding="VALID"),
  "dilated": dict(window_strides=(1, 1), padding="SAME", rhs_dilation=(2, 2)),
  "grouped": dict(window_strides=(1, 1), padding="SAME", feature_group_count=2),
}


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("wanted", ["output", "input gradient", "kernel gradient"])
def test_convolutions_have_the_flops_that_xla_counts(name, wanted):
  how = WINDOWS[name]
  x = jnp.ones((4, 9, 10, 6))
  w = jnp.ones((3, 3, 6 // how.get("feature_group_count", 1), 8))
  loss = lambda x, w: conv(x, w, **how).sum()
  fn = {
    "output": lambda x, w: conv(x, w, **how),
    "input gradient": jax.grad(loss, 0),
    "kernel gradient": jax.grad(loss, 1),
  }[wanted]
  pulled = jax.jit(fn).lower(x, w)
  text = pulled.compiler_ir("hlo").as_hlo_text()
  assert priced(text).flops == pulled.cost_analysis()["flops"] > 0


def test_matrix_products_by_hand():
  f = lambda a, b: jnp.einsum("kbi,kio->kbo", a, b)
  shapes = jnp.ones((3, 5, 7), jnp.bfloat16), jnp.ones((3, 7, 11), jnp.bfloat16)
  found = priced(jax.jit(f).lower(*shapes).compiler_ir("hlo").as_hlo_text())
  assert found.flops == 2 * 3 * 5 * 7 * 11
  assert dict(found.products) == {("product", "bf16", ""): 1}


CUDNN = (PROGRAMS / "libraries.txt").read_text()


def test_libraries_of_a_gpu_by_hand():
  """Along an axis 16 places of 3 numbers each, of which the first lacks one: 47 pairs."""
  found = priced(CUDNN)
  one = 2 * 64 * 32 * 16 * 47**2
  assert found.flops == 3 * one + 2 * 64 * 64 * 8192
  assert found.launches == 4
  assert found.products["convolution", "bf16", "b01f_o01i->b01f"] == 3
  assert found.products["product", "bf16", ""] == 1


def test_a_librarys_scratch_moves_nothing():
  x, y, w = 64 * 32 * 32 * 16 * 2, 64 * 16 * 16 * 32 * 2, 32 * 3 * 3 * 16 * 2
  moved = 3 * (x + y + w) + 2 * y + 64 * 64 * 2
  assert priced(CUDNN).moved == moved
  scratch = CUDNN.replace("u8[0]", "u8[1000000]").replace("s8[0]", "s8[4194304]")
  assert priced(scratch).moved == moved


def square(dtype, **how):
  f = lambda a, b: jnp.matmul(a, b, **how)
  return jax.jit(f).lower(*[jnp.ones((4096, 4096), dtype)] * 2).compiler_ir("hlo").as_hlo_text()


@pytest.mark.parametrize(
  "how, teraflops", [({}, 494), ({"precision": "high"}, 494), ({"precision": "highest"}, 67)]
)
def test_a_card_multiplies_float32_as_tf32_but_at_the_highest_precision(how, teraflops):
  found = priced(square(jnp.float32, **how))
  assert found.arithmetic == pytest.approx(2 * 4096**3 / (teraflops * 1e12))
  passes = 6 if how.get("precision") == "highest" else 1
  assert priced(square(jnp.float32, **how), V5E).arithmetic == passes * 2 * 4096**3 / 197e12


def test_the_highest_precision_of_bfloat16_is_its_own():
  found = priced(square(jnp.bfloat16, precision="highest"))
  assert found.arithmetic == pytest.approx(2 * 4096**3 / 989e12)


@pytest.mark.parametrize("asked, teraflops", [("DEFAULT", 494), ("HIGHEST", 67)])
def test_libraries_are_told_the_precision_in_their_own_notation(asked, teraflops):
  text = CUDNN.replace("bf16", "f32").replace(
    '{"dot_dimension',
    f'{{"precision_config":{{"operand_precision":["{asked}","{asked}"]}},"dot_dimension',
  )
  convolutions = 3 * 2 * 64 * 32 * 16 * 47**2 / 494e12
  product = 2 * 64 * 64 * 8192 / (teraflops * 1e12)
  assert priced(text).arithmetic == pytest.approx(convolutions + product)


SLICES = (PROGRAMS / "slices.txt").read_text()


def test_a_row_of_a_stack_moves_a_row():
  """A client's turn in a loop: read 4,000 bytes of the stack and 4,000 beside, write 4,000."""
  assert priced(SLICES).moved == 4000 + 4 + 4000 + 4000


def test_what_stays_on_the_chip_moves_nothing():
  text = SLICES.replace("%d = f32[1,1000]{1,0} p", "%d = f32[1,1000]{1,0:T(1,128)S(1)} p")
  assert priced(text, V5E).moved == 4000 + 4 + 4000


def test_a_chip_moves_whole_tiles():
  """A row of 1,000 numbers in tiles of 128 is 1,024 wide; eight rows of one tile, were it alone."""
  tiled = SLICES.replace("f32[1,1000]{1,0}", "f32[1,1000]{1,0:T(1,128)}")
  tiled = tiled.replace("f32[8,1000]{1,0}", "f32[8,1000]{1,0:T(8,128)}")
  assert priced(tiled, V5E).moved == 3 * 4096 + 4
  assert priced(tiled.replace("T(1,128)", "T(8,128)"), V5E).moved == 3 * 8 * 4096 + 4


SCATTER = (PROGRAMS / "scatter.txt").read_text()


def test_rows_that_are_written_into_a_table_move_no_table():
  """As FedGKT's uploads: 16 indices and rows are read and the rows written, of a table of 900."""
  assert priced(SCATTER).moved == 16 * 4 + 2 * 16 * 4000


def test_a_slice_that_is_fetched_ahead_moves_a_slice():
  """A chip reads 8 of 64 rows into its own memory; written to main memory they move twice."""
  begun = "((f32[64,128]{1,0:T(8,128)}), f32[8,128]{1,0:T(8,128)S(1)}, s32[]{:S(2)})"
  text = "HloModule m\n\nENTRY %main (x: f32[64,128]) -> f32[8,128] {\n"
  text += "  %x = f32[64,128]{1,0:T(8,128)} parameter(0)\n"
  text += f"  %begun = {begun} slice-start(%x), slice={{[8:16], [0:128]}}\n"
  text += "  ROOT %part = f32[8,128]{1,0:T(8,128)S(1)} slice-done(%begun)\n}\n"
  assert priced(text, V5E).moved == 8 * 128 * 4
  assert priced(text.replace("S(1)", ""), V5E).moved == 2 * 8 * 128 * 4


MESSAGES = (PROGRAMS / "messages.txt").read_text()


def test_messages_by_hand():
  """What one device sends: twice three quarters of 4,000 bytes; its part seven times; all of it."""
  found = priced(MESSAGES).collectives
  assert found == {
    "all-reduce": [1, 6000],
    "all-gather": [1, 28000],
    "collective-permute": [1, 4000],
  }


@pytest.mark.parametrize(
  "written, n",
  [
    ("{{0,1,2,3},{4,5,6,7}}", 4),
    ("{{0,1,2,3,4,5,6,7}}", 8),
    ("{}", 8),  # all that run the program
    ("[4,2]<=[8]", 2),
    ("[2,4]<=[4,2]T(1,0)", 4),
    ("mesh['a'=2,'b'=4] {'b'}", 4),
    ("mesh['a'=2,'b'=4] {'a','b'}", 8),
  ],
)
def test_every_notation_of_a_group(written, n):
  text = MESSAGES.replace("HloModule m", "HloModule m, num_partitions=8")
  found = priced(text.replace("{{0,1,2,3},{4,5,6,7}}", written)).collectives["all-reduce"]
  assert found == [1, 2 * (n - 1) / n * 4000]


def test_a_group_that_is_written_in_no_known_way_is_no_guess():
  with pytest.raises(ValueError, match="all-reduce sum: its groups"):
    priced(MESSAGES.replace("{{0,1,2,3},{4,5,6,7}}", "mesh['x'=8] {'x':(1)2}"))


@pytest.mark.parametrize(
  "written, together",
  [
    ("{{0,1},{2,3},{4,5},{6,7}}", [[0, 1], [2, 3], [4, 5], [6, 7]]),
    ("[4,2]<=[8]", [[0, 1], [2, 3], [4, 5], [6, 7]]),
    ("[2,4]<=[4,2]T(1,0)", [[0, 2, 4, 6], [1, 3, 5, 7]]),
    ("mesh['a'=2,'b'=4] {'a'}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
    ("mesh['a'=2,'b'=2,'c'=2] {'a','c'}", [[0, 1, 4, 5], [2, 3, 6, 7]]),
  ],
)
def test_who_is_in_a_group(written, together):
  module = hlo.parse(MESSAGES.replace("{{0,1,2,3},{4,5,6,7}}", written))
  (one,) = [one for one, *_ in module.runs() if one.op == "all-reduce"]
  assert groups(module, one) == together


def test_messages_between_hosts_take_the_network():
  """Of two hosts of four an all-gather over eight devices crosses, a sum of four does not."""
  mine = dataclasses.replace(H100, host=4, network=50e9)
  module = MESSAGES.replace("HloModule m", "HloModule m, num_partitions=8")
  found = priced(module, mine).seconds["messages"]
  assert found == pytest.approx(6000 / 450e9 + 28000 / 50e9 + 4000 / 450e9)
  across = module.replace("{{0,1,2,3},{4,5,6,7}}", "{{0,2,4,6},{1,3,5,7}}")
  assert priced(across, mine).seconds["messages"] > found


FUSED = """HloModule m, num_partitions=4

%all-reduce-scatter (p: f32[1000]) -> f32[250] {
  %p = f32[1000]{0} parameter(0)
  %zero = s32[] constant(0)
  %sum = f32[1000]{0} all-reduce(%p), replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %mine = f32[250]{0} dynamic-slice(%sum, %zero), dynamic_slice_sizes={250}
}

ENTRY %main (x: f32[1000]) -> f32[250] {
  %x = f32[1000]{0} parameter(0)
  ROOT %y = f32[250]{0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter
}
"""


def test_a_sum_that_a_tpu_fuses_with_its_slice_is_a_message():
  """As libtpu writes a reduce-scatter: each sends three quarters of 4,000 bytes."""
  assert priced(FUSED, V5E).collectives == {"reduce-scatter": [1, 3000]}


SPREAD = (PROGRAMS / "spread.txt").read_text()


def test_a_message_that_a_tpu_spreads_over_kernels_is_sent_once():
  """As libtpu writes an all-gather beside other work: 4 KB go to each of three, 4 + 16 KB move."""
  found = priced(SPREAD, V5E)
  assert found.collectives == {"all-gather": [1, 3 * 4096]}
  assert found.moved == 4096 + 4 * 4096 + 2 * 256


@pytest.mark.parametrize(
  "shapes, window, kind",
  [
    ("4,64,128;4,128,256;4,64,256", "window={size=4 stride=3 lhs_dilate=4}, ", "product"),
    ("2,64,128;2,128,256;2,64,256", "window={size=2 lhs_dilate=2}, ", "product"),
    ("4,64,128;1,128,256;4,64,256", "window={size=1}, ", "convolution"),
    ("4,64,128;3,128,256;4,64,256", "window={size=3 pad=1_1}, ", "convolution"),
  ],
)
def test_a_batch_of_products_is_no_convolution(shapes, window, kind):
  """A TPU writes it as one, along an axis on which every place meets its own kernel."""
  x, w, y = (f"f32[{shape}]{{2,1,0}}" for shape in shapes.split(";"))
  text = "HloModule m\n\nENTRY %main () -> f32[] {\n"
  text += f"  %x = {x} parameter(0)\n  %w = {w} parameter(1)\n"
  text += f"  ROOT %y = {y} convolution(%x, %w), {window}dim_labels=0bf_0io->0bf\n}}\n"
  found = priced(text, V5E)
  assert [name for name, *_ in found.products] == [kind]
  places = {"4,128,256": 4, "2,128,256": 2, "1,128,256": 4, "3,128,256": 4 * 3 - 2}
  assert found.flops == 2 * 64 * 128 * 256 * places[shapes.split(";")[1]]


def test_the_highest_precision_takes_a_tpu_six_passes():
  text = "HloModule m\n\nENTRY %main (x: f32[64,64]) -> f32[64,64] {\n"
  text += "  %x = f32[64,64]{1,0} parameter(0)\n"
  text += "  ROOT %y = f32[64,64]{1,0} convolution(%x, %x), dim_labels=bf_io->bf\n}\n"
  once = priced(text, V5E).arithmetic
  assert once == pytest.approx(2 * 64**3 / 197e12)
  exact = text.replace("bf_io->bf", "bf_io->bf, operand_precision={highest,highest}")
  assert priced(exact, V5E).arithmetic == pytest.approx(6 * once)


def test_whoever_is_alone_sends_nothing():
  text = MESSAGES.replace("{{0,1,2,3},{4,5,6,7}}", "{{0},{1}}").replace("{{0,1},{1,0}}", "{{0,0}}")
  assert set(priced(text).collectives) == {"all-gather"}


def test_a_message_that_has_begun_is_written_once():
  """Each reads what is given and writes what comes: 4 + 4, 4 + 32, 4 + 4 KB; started, the same."""
  assert priced(MESSAGES).moved == 8000 + 36000 + 8000
  started = MESSAGES.replace(
    "%sum = f32[1000]{0} all-reduce(", "%sum = f32[1000]{0} all-reduce-start("
  ).replace(
    "%all = f32[8000]{0} all-gather(", "%all = (f32[1000]{0}, f32[8000]{0}) all-gather-start("
  )
  assert priced(started).moved == 8000 + 36000 + 8000
  assert priced(started).collectives == priced(MESSAGES).collectives


def test_a_neighbour_on_a_torus_has_one_link():
  """Of four of a v5e, 50 GB/s each; a ring uses all."""
  found = priced(MESSAGES, V5E).seconds["messages"]
  assert found == pytest.approx((6000 + 28000) / 200e9 + 4000 / 50e9)


BRANCHES = """HloModule m

%two (a: f32[1000]) -> f32[1000] {
  %a = f32[1000]{0} parameter(0)
  %once = f32[1000]{0} tanh(%a)
  ROOT %twice = f32[1000]{0} tanh(%once)
}

%none (a: f32[1000]) -> f32[1000] {
  ROOT %a = f32[1000]{0} parameter(0)
}

%nested (a: f32[1000]) -> f32[1000] {
  %a = f32[1000]{0} parameter(0)
  %i = s32[] constant(1)
  %b = f32[1000]{0} conditional(%i, %a, %a), branch_computations={%two, %none}
  ROOT %c = f32[1000]{0} tanh(%b)
}

ENTRY %main (i: s32[], x: f32[1000]) -> f32[1000] {
  %i = s32[] parameter(0)
  %x = f32[1000]{0} parameter(1)
  ROOT %y = f32[1000]{0} conditional(%i, %x, %x, %x), branch_computations={%none, %nested, %two}
}
"""


def test_of_branches_the_dearest_counts():
  """Three kernels, of the second branch and of the first one inside it."""
  found = priced(BRANCHES)
  assert (found.launches, found.moved) == (3, 3 * 8000)
  assert found.time == pytest.approx(3 * 4e-6)


def test_a_kernel_takes_what_its_slowest_side_takes():
  """4 + 4 KB at 3.352 TB/s take 2.4 ns, a launch 4 microseconds; on a TPU nothing is launched."""
  text = "HloModule m\n\nENTRY %main (x: f32[1000]) -> f32[1000] {\n"
  text += "  %x = f32[1000]{0} parameter(0)\n  ROOT %y = f32[1000]{0} tanh(%x)\n}\n"
  gpu, tpu = priced(text), priced(text, V5E)
  assert gpu.binds == "launches" and gpu.time == pytest.approx(4e-6)
  assert gpu.replayed == pytest.approx(1.3e-6) and tpu.replayed == tpu.time
  assert tpu.binds == "memory" and tpu.time == pytest.approx(8000 / 819e9)
  big = jax.jit(jnp.matmul).lower(*[jnp.ones((4096, 4096), jnp.bfloat16)] * 2)
  found = priced(big.compiler_ir("hlo").as_hlo_text())
  assert found.binds == "compute"
  np.testing.assert_allclose(found.time, 2 * 4096**3 / 989e12)
