"""senca_ray: multi-sample experiments on tissue-region segmentation, distributed with Ray.

Importing it imports none of the heavy packages; they come where they are needed.
"""
