"""Counts again what every hop should have carried, from the source's own count to what readers see.

Nothing is taken from what a stage said about itself where it can be counted anew: files are hashed and
read, tables are scanned. `landed` looks at the manifests and landing, `computed` at raw and the facts,
`released` at the store. Nothing is written.
"""

from keepline.recount.computed import recount_compute, recount_record
from keepline.recount.landed import recount_landing
from keepline.recount.outcome import Difference, Hop, by_day, first_difference
from keepline.recount.released import recount_release

__all__ = [
    "Difference",
    "Hop",
    "by_day",
    "first_difference",
    "recount_compute",
    "recount_landing",
    "recount_record",
    "recount_release",
]
