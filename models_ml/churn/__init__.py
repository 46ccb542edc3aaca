"""Who is about to leave, why, and whether a contact pays.

`batch` holds the two entry points, `train` and `score`. Importing this package imports nothing
else: the probe that tries a model file in a process of its own has to start fast.
"""
