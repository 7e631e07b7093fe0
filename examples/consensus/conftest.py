"""Properties need several devices; they must be made before JAX is used."""

from kdjax import testing

testing.devices(8)
