"""The measurements, one file each."""

SHARED = ("_counting",)  # files without a measurement
