"""Every method on one split of the letters, with equally many private examples per client.

As all_digits.py, with the thirteen clients of mhd_letter.py and 150 passes. Needs the data, as
mhd_letter.py says.

  python -m kdjax.main --config=configs/all_letter.py --workdir=runs/all_letter
"""

from kdjax.configs import all_digits, common, mhd_letter


def get_config(words=""):
  """The experiment of mhd_letter.py, with all other methods to compare."""
  return common.crossed(all_digits.beside(mhd_letter.get_config(), passes=150), words)
