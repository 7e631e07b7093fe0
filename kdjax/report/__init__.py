"""What people look at after a run: page, figures, tables."""
