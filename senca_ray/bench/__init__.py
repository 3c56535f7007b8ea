"""`senca bench`: how fast the steps of a study are, measured in processes of their own."""
