"""Random numbers for the tests' inputs; every test begins with the same (conftest.py)."""

import numpy as np

rng = np.random.default_rng(0)
START = rng.bit_generator.state
