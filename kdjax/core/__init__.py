"""What at least two methods need: clients, graph, losses, randomness, the mesh."""
