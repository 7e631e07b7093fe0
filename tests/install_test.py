"""What a wheel holds: the library with its configs, nothing else; it starts anywhere."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
  folder = tmp_path_factory.mktemp("wheel")
  command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
  subprocess.run(command, check=True, capture_output=True)
  (path,) = folder.glob("*.whl")
  return path


def test_a_wheel_holds_the_package_its_configs_and_its_data(wheel):
  names = zipfile.ZipFile(wheel).namelist()
  tops = {name.partition("/")[0] for name in names}
  assert {t for t in tops if not t.endswith(".dist-info")} == {"kdjax"}
  inside = {str(p.relative_to(ROOT)) for p in (ROOT / "kdjax").rglob("*.py")}
  configs = {f"kdjax/configs/{p.name}" for p in (ROOT / "configs").glob("*.py")}
  assert inside | configs | {"kdjax/measured.csv", "kdjax/py.typed"} <= set(names)


def test_it_starts_from_any_folder_beside_any_clone(wheel, tmp_path):
  """Beside a folder named kdjax, too: a clone, which is no package."""
  (tmp_path / "kdjax").mkdir()
  zipfile.ZipFile(wheel).extractall(tmp_path / "site")
  environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
  run = lambda *words: subprocess.run(
    [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
  )
  said = run("-c", "import kdjax, kdjax.configs.common; print(kdjax.__file__)")
  assert said.stdout == f"{tmp_path / 'site' / 'kdjax' / '__init__.py'}\n", said.stderr
  listed = run("-m", "kdjax.main", "configs")
  names = {line.split()[0] for line in listed.stdout.splitlines()}
  files = {p.stem for p in (ROOT / "configs").glob("*.py")}
  assert names == files - {"__init__", "common", "data"}
  archive = zipfile.ZipFile(wheel)
  (points,) = [n for n in archive.namelist() if n.endswith("entry_points.txt")]
  assert b"kdjax = kdjax.__main__:cli" in archive.read(points)
