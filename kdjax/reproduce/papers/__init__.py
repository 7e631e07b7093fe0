"""One file a paper: its tasks, arms, claims and figures."""
