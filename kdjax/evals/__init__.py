"""The measurements, one file each."""

SHARED = ("_counting",)  # files that hold none
