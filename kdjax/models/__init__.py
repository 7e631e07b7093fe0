"""Model families, one file each; `kdjax.models.build` finds them by name."""

SHARED = ("build", "conv", "heads", "layers", "loop")  # files without a model
