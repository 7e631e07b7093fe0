"""A file is the old one or the new one, never half."""

import pytest

from kdjax.core import files


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
  path = tmp_path / "weights.bin"
  files.replace(path, b"old")
  with pytest.raises(RuntimeError), files.whole(path) as part:
    part.write_bytes(b"ha")
    raise RuntimeError
  assert path.read_bytes() == b"old"
  assert [file.name for file in tmp_path.iterdir()] == ["weights.bin"]
  files.replace(path, b"new")
  assert path.read_bytes() == b"new"
