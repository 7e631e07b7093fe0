"""A compiled program's text, read: how often each instruction runs."""

from pathlib import Path

import pytest

from kdjax.hardware import hlo

PROGRAMS = Path(__file__).parent / "programs"
TEXT = (PROGRAMS / "loop.txt").read_text()


def counts(text):
  out = {}
  for one, _, times in hlo.parse(text).runs():
    out[one.op] = out.get(one.op, 0) + times
  return out


def test_a_loops_body_runs_as_often_as_its_bound_says():
  assert counts(TEXT)["tanh"] == 7


def test_what_xla_knows_of_a_loop_goes_before_its_condition():
  known = TEXT.replace("body=%body,", 'body=%body, backend_config={"known_trip_count":{"n":"3"}},')
  assert counts(known)["tanh"] == 3


def test_a_loop_as_long_as_a_value_counts_once():
  """A dispatch's steps: what is priced is one of them."""
  assert counts(TEXT.replace("%n = s32[] constant(7)", "%n = s32[] parameter(1)"))["tanh"] == 1


def test_a_constant_that_is_no_bound_does_not_end_a_loop_before_it_begins():
  """As in `while i < n and x > 0`: the body runs once at least."""
  text = TEXT.replace("%n = s32[] constant(7)", "%n = s32[] constant(0)")
  assert counts(text)["tanh"] == 1


def test_of_branches_those_run_that_are_chosen():
  found = counts(TEXT)
  assert (found["exponential"], found["cosine"]) == (1, 1)
  last = {one.op for one, *_ in hlo.parse(TEXT).runs(choose=lambda names: names[1:])}
  assert "cosine" in last and "exponential" not in last


def test_shapes_layouts_and_operands():
  entry = hlo.parse(TEXT).computations["main"]
  (v,) = entry["v"].result
  assert (v.dtype, v.shape, v.nbytes, v.in_memory) == ("f32", (4, 8), 128, False)
  both = entry["both"]
  assert both.root and both.operands == ("out", "either") and both.nbytes == 256
  assert entry["w"].nbytes == 1 and entry["loop"].field(r"body=%(\w+)") == "body"


@pytest.mark.parametrize(
  "shape, held",
  [
    ("f32[4,8]{1,0}", 4 * 8 * 4),
    ("f32[4,8]{1,0:T(8,128)}", 8 * 128 * 4),
    ("f32[4,8]{0,1:T(8,128)}", 8 * 128 * 4),
    ("f32[9,130]{1,0:T(8,128)}", 16 * 256 * 4),
    ("f32[130,9]{0,1:T(8,128)}", 16 * 256 * 4),  # the first dimension is the minor one
    ("bf16[64,32,32,16]{3,2,1,0:T(8,128)(2,1)}", 64 * 32 * 32 * 128 * 2),
    ("bf16[64,32,32,16]{0,3,2,1:T(8,128)(2,1)}", 128 * 16 * 32 * 32 * 2),
    ("bf16[1,100]{1,0:T(1,128)(2,1)}", 2 * 128 * 2),  # pairs of rows, of which one is empty
    ("f32[100]{0:T(1024)}", 1024 * 4),
    ("s32[]{:T(128)}", 128 * 4),
    ("f32[5]{0:T(8,128)S(1)}", 8 * 128 * 4),
  ],
)
def test_tiles_are_held_whole(shape, held):
  text = f"HloModule m\n\nENTRY %main () -> f32[] {{\n  ROOT %x = {shape} parameter(0)\n}}\n"
  assert hlo.parse(text).computations["main"]["x"].padded == held


def test_how_many_devices_run_it():
  assert hlo.parse(TEXT).devices == 1
  both = TEXT.replace("is_scheduled=true", "is_scheduled=true, replica_count=2, num_partitions=4")
  assert hlo.parse(both).devices == 8


def test_what_is_no_program_is_refused():
  with pytest.raises(ValueError, match="no ENTRY"):
    hlo.parse("nothing")
