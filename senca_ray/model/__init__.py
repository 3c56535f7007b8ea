"""SENCA-st (Shared Encoder with Neighborhood Cross Attention): the network and its loss, torch only."""
