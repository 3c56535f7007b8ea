"""Public cohorts: where they are, and how they come into a folder that a reader reads."""
