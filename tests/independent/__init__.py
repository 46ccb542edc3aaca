"""What keepline publishes, counted a second time in plain Python from landed rows and the words.

`docs/definitions.md` says what the figures mean; nothing here has seen a model. It imports nothing
of the product and no engine, and reads of the project only the seeds of parameters.
"""
