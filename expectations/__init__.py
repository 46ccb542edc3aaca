"""Great Expectations at the two borders: what landed, and what leaves.

`gates.yml` says which suite looks at what, `suites/*.json` hold the expectations. What is inside the
warehouse is the business of dbt's tests; no rule is written twice.
"""
