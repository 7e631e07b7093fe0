"""Model families, one file each; `kdjax.models.build` finds them by name."""
