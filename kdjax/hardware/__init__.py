"""Machines that are not at hand: what a program would cost there, as its compiler writes it."""
