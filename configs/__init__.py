"""The experiments: a file each, found by name (`kdjax --config=mhd_digits`) or by path."""
