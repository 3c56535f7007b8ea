"""Where image encoders come from: torchvision, timm, CONCH, and the files that hold their weights."""
