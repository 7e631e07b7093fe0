"""Scripts for the rivals' own interpreters; none of them imports kdjax."""
