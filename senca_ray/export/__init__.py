"""Files to carry on with: what a study found in each section, as other programs open it."""
