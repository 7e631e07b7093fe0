"""The processes that a contest times."""
