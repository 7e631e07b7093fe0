"""The array type of annotations: a JAX array, traced or not, or a NumPy array on the host."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Array as JaxArray

if TYPE_CHECKING:
  Array = JaxArray  # the code uses only what both types have
else:
  Array = JaxArray | np.ndarray
