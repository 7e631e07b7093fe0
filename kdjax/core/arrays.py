"""What annotations call an array: JAX's, traced or not, or NumPy's, on the host."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Array as JaxArray

if TYPE_CHECKING:
  Array = JaxArray  # what both have is what is used
else:
  Array = JaxArray | np.ndarray
