"""Modules that at least two methods need: clients, graph, losses, randomness, the mesh."""
