"""The verbs of the `keepline` command, grouped by who uses them."""
