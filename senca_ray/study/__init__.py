"""Ray Tune: a study's trials, their workers and their resources."""
