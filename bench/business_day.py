"""An operator of a given size, its history in a warehouse, and a business day of it, stage by stage.

Every stage of a business day runs in a process of its own, as it does under Airflow, so that its peak
memory is its own (bench/alone.py).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from keepline import store
from keepline.commands import demo, modelling, pipeline, status
from keepline.embedded import EmbeddedPostgres
from keepline.release import retention
from keepline.settings import Settings
from keepline.window import Window

from .alone import Clock, Run, run_alone, serve
from .row import PASSWORD, environment_of, settings_for

LAST_DATE = date(2026, 6, 30)
"""Last day of every history."""
FACTOR_LINES = 100_000
FACTOR_DAYS = 90
# Training needs a longer history than the benchmarks have, and a small one is enough.
TRAINED_ON = (1_000, 160)
SEED = 7
MODULE = "bench.business_day"

STAGES: dict[str, Callable[[Settings, Window], object]] = {
    "extract": pipeline.extract,
    "load": pipeline.load,
    "check": pipeline.check,
    "build core": lambda settings, window: pipeline.build(settings, "core", window),
    "build features": lambda settings, window: pipeline.build(settings, "features", window),
    "score": lambda settings, window: modelling.score(settings, window.last_date),
    "build marts": lambda settings, window: pipeline.build(settings, "marts", window),
    "stage": pipeline.stage_release,
    "audit": pipeline.audit,
    "publish": pipeline.publish,
}
"""A business day, in order."""

HISTORY: dict[str, Callable[[Settings, Window], object]] = {
    "migrate": lambda settings, _: pipeline.migrate(settings),
    **{verb: STAGES[verb] for verb in ("extract", "load", "build core", "build marts")},
}
"""What brings a history in, in order."""


def _read(settings: Settings, _: Window) -> int:
    """Ask what a reader asks, with a reader's rights."""
    with store.connect(settings, store.READERS[0]) as connection:
        return len(
            connection.execute(
                "select risk_tier, count(*), sum(clv_12m_fen) from mart.churn_risk_latest group by 1"
            ).fetchall()
        )


def _audit_again(settings: Settings, window: Window) -> None:
    """Audit what has passed before: that alone would be seen at once, and nothing be measured."""
    with store.connect(settings) as connection:
        connection.execute(
            "update ctl.release set status = 'staged' where from_date = %s and to_date = %s"
            " and release_id = (select release_id from ctl.current_release)",
            [window.from_date, window.to_date],
        )
    pipeline.audit(settings, window)


OTHERS: dict[str, Callable[[Settings, Window], object]] = {
    "train": lambda settings, window: modelling.train(settings, window.last_date),
    "rebuild core": lambda settings, window: pipeline.build(
        settings, "core", window, full_refresh=True
    ),
    "audit again": _audit_again,
    "status": lambda *_: status.status(),
    "clean": lambda settings, _: retention.clean(settings),
    "read": _read,
}
"""What else is measured."""

VERBS = {**HISTORY, **STAGES, **OTHERS}


@dataclass(frozen=True)
class Operator:
    """A simulated operator and the warehouse that reads it.

    Attributes:
        settings: of the warehouse, with a compute engine.
        environment: what the warehouse's processes see.
        history: its load dates.
        dsn: the operator's database, for its reader.
        drops: folder of its call records.
    """

    settings: Settings
    environment: Mapping[str, str]
    history: Window
    dsn: str
    drops: Path

    def day(self, number: int) -> Window:
        """Return a business day after the history, 0 being the first."""
        return Window.day(self.history.to_date + timedelta(days=number))

    def run(self, verb: str, window: Window) -> Run:
        """Run a stage in a process of its own."""
        given = {"from": str(window.from_date), "to": str(window.to_date)}
        return run_alone(MODULE, verb, given, dict(self.environment))

    def run_day(self, number: int) -> dict[str, Run]:
        """Run a business day stage by stage."""
        return {verb: self.run(verb, self.day(number)) for verb in STAGES}

    def bring_history(self, models: Path | None) -> dict[str, Run]:
        """Bring the history in, with models to score with; None leaves training to the caller."""
        if models is not None:
            shutil.copytree(models, self.settings.models_dir)
        return {verb: self.run(verb, self.history) for verb in HISTORY}


def simulate(
    folder: Path, server: EmbeddedPostgres, lines: int, days: int, mornings: int, **more: str
) -> Operator:
    """Make an operator with a history and some mornings after it, and an empty warehouse for it.

    Args:
        folder: where everything goes; its name, a plain word, is part of the databases' names.
        server: holds the operator's database and the warehouse's store.
        lines: subscriptions on the first day.
        days: length of the history.
        mornings: business days after it.
        **more: settings of the warehouse, such as `compute`.
    """
    # A store of its own: what one operator delivered is no repetition of what another did.
    name, own = f"operator_{folder.name}", f"store_{folder.name}"
    for database in (name, own):
        server.ensure_database(database)
    settings = settings_for(folder, server, **more)
    settings = settings.model_copy(update={"store_dsn": SecretStr(server.dsn(own))})
    settings.operator_home.mkdir(parents=True)
    os.environ["KEEPLINE_DEMO_ADMIN_DSN"] = server.dsn(name)
    demo.create(settings, lines, days, seed=SEED, last_date=LAST_DATE, mornings=mornings)
    dsn = server.dsn(name, "extractor", PASSWORD)
    environment = environment_of(settings) | {
        "KEEPLINE_DEMO_DSN": dsn,
        "KEEPLINE_DEMO_DROPS": str(settings.drops_dir),
    }
    history = Window(LAST_DATE - timedelta(days=days - 1), LAST_DATE + timedelta(days=1))
    return Operator(settings, environment, history, dsn, settings.drops_dir)


def trained_models(folder: Path, server: EmbeddedPostgres) -> Path:
    """Train on a small operator with a history that is long enough; returns the folder of the models."""
    operator = simulate(folder, server, *TRAINED_ON, mornings=0)
    operator.bring_history(None)
    operator.run("train", operator.history)
    return operator.settings.models_dir


def _stage(verb: str, given: Mapping[str, Any], clock: Clock) -> int:
    settings = Settings.load()
    window = Window(date.fromisoformat(given["from"]), date.fromisoformat(given["to"]))
    before = os.times()
    with clock:
        rows = VERBS[verb](settings, window)
    after = os.times()
    # Of this process and those that it started; what a server works is not in it.
    clock.more["cpu_s"] = sum(after[:4]) - sum(before[:4])
    return rows if isinstance(rows, int) else 0


if __name__ == "__main__":
    serve({verb: partial(_stage, verb) for verb in VERBS})
