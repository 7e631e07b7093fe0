"""Every method on one split of the letters, with as many private examples a client.

As all_digits.py, with the thirteen clients of mhd_letter.py; 150 passes. Needs the data, see there.

  python -m kdjax.main --config=configs/all_letter.py --workdir=runs/all_letter
"""

from kdjax.configs import all_digits, common, mhd_letter


def get_config(words=""):
  """The experiment of mhd_letter.py beside all other methods."""
  return common.crossed(all_digits.beside(mhd_letter.get_config(), passes=150), words)
