"""How attention, contrast, clustering, consensus and silhouette are computed: exactly or about linearly."""

from __future__ import annotations

from senca_ray import keys
from senca_ray.config import Setting

LARGE_FROM = 6_000
"""Sections of so many spots or more take the large form under `form=auto`.

At 5,000 spots a fit takes 33 s and 2.1 GB exactly, 12 s and 1.2 GB in the large form; at 2,000 9 s and 7 s,
each with 0.9 GB (one core). Above this limit the exact form's square tells; all of Visium's 4,992 spots lie
below it. Measured as in docs/scale.md.
"""


def form_of(setting: Setting, n_spots: int) -> str:
    """keys.EXACT or keys.LARGE: what `setting.form` says, of 'auto' what the number of spots says."""
    if setting.form != "auto":
        return setting.form
    return keys.LARGE if n_spots >= LARGE_FROM else keys.EXACT
