"""One sample: training, regions, scores. Nothing in here knows of Ray."""
