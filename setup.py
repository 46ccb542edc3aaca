"""The wheel brings the dbt project, the DAGs, the operators and the locks in one package, `keepline.project`.

In the tree they stay at the top, where engineers look for them; everything else is in pyproject.toml.
"""

from pathlib import Path
from shutil import copy2, copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ("dbt_project", "dags", "operators")
# What dbt writes when it is typed by hand, and Python's own.
NOT_OURS = ignore_patterns("target", "logs", "dbt_packages", ".user.yml", "__pycache__")


class BuildWithProject(build_py):
    """Copies what lies beside the packages into the wheel; an editable install reads it in its place."""

    def run(self) -> None:
        """Build the packages, then put the project beside them."""
        super().run()
        if self.editable_mode:
            return
        project = Path(self.build_lib) / "keepline" / "project"
        for name in FOLDERS:
            copytree(name, project / name, ignore=NOT_OURS, dirs_exist_ok=True)
        for lock in ("requirements.lock", "requirements-spark.lock"):
            copy2(lock, project / lock)


setup(cmdclass={"build_py": BuildWithProject})
