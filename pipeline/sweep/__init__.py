"""`gait sweep`: many trials of an experiment on a Ray cluster, and what they leave to read."""
