"""A compiled program's text, read: how often each instruction runs."""

from pathlib import Path

import pytest

from kdjax.hardware import hlo

PROGRAMS = Path(__file__).parent / "programs"
TEXT = (PROGRAMS / "loop.txt").read_text()


def counts(text):
  out = {}
  for one, _, times, _ in hlo.parse(text).runs():
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


def test_branches_share_a_call():
  found = counts(TEXT)
  assert (found["exponential"], found["cosine"]) == (0.5, 0.5)


def test_shapes_layouts_and_operands():
  entry = hlo.parse(TEXT).computations["main"]
  (v,) = entry["v"].result
  assert (v.dtype, v.shape, v.nbytes, v.in_memory) == ("f32", (4, 8), 128, False)
  both = entry["both"]
  assert both.root and both.operands == ("out", "either") and both.nbytes == 256
  assert entry["w"].nbytes == 1 and entry["loop"].field(r"body=%(\w+)") == "body"


def test_kernels_of_a_command_buffer_are_known():
  text = """HloModule m

%command_buffer (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  ROOT %y = f32[8]{0} tanh(%x)
}

ENTRY %main (v: f32[8]) -> f32[8] {
  %v = f32[8]{0} parameter(0)
  ROOT %call = f32[8]{0} call(%v), to_apply=%command_buffer
}
"""
  assert [(one.op, inside) for one, _, _, inside in hlo.parse(text).runs() if one.op == "tanh"] == [
    ("tanh", True)
  ]


def test_what_is_no_program_is_refused():
  with pytest.raises(ValueError, match="no ENTRY"):
    hlo.parse("nothing")
