"""The cost of a program on a machine that is not at hand, from its compiled text."""
