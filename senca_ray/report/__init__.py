"""What a study is looked at with: figures, spot maps, an HTML page, a W&B run; no score is computed here."""
