"""Where examples come from, who holds them, and how they are augmented."""
