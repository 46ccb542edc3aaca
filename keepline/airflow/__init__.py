"""Airflow on this machine: a DAG run in the foreground, or a small Airflow to look at.

Airflow is a program here, not a library: it gets an environment of its own and nothing of it is
imported. Production runs the same `dags/` in an Airflow of its own; see docs/airflow.md.
"""

from keepline.airflow.foreground import test_dag
from keepline.airflow.local import AirflowBrokenError, environment
from keepline.airflow.standalone import POOL, standalone

__all__ = ["POOL", "AirflowBrokenError", "environment", "standalone", "test_dag"]
