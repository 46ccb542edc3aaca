"""A small simulated operator with its warehouse, for the rows that need what dbt and a training made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta

from keepline.commands import demo, modelling, pipeline
from keepline.embedded import EmbeddedPostgres
from keepline.settings import Settings
from keepline.window import Window

from .row import PASSWORD, settings_for, workplace

LAST_DATE = date(2026, 6, 30)
OPERATOR = "operator_small"


@contextmanager
def small_operator(
    name: str, lines: int, days: int, *, train: bool, mornings: int = 1
) -> Iterator[Settings]:
    """Give the settings of a warehouse that holds the history of a small operator, built and perhaps trained.

    Args:
        name: of the workplace.
        lines: subscriptions.
        days: of history; training needs about half a year.
        train: whether a model is trained at its end.
        mornings: days that can be run after the history.
    """
    with workplace(name) as (folder, server):
        settings = settings_for(folder, server)
        environment = _operator(server, settings)
        before = {key: os.environ.get(key) for key in environment}
        os.environ.update(environment)
        try:
            demo.create(settings, lines, days, seed=7, last_date=LAST_DATE, mornings=mornings)
            history = Window(LAST_DATE - timedelta(days=days - 1), LAST_DATE + timedelta(days=1))
            pipeline.migrate(settings)
            pipeline.extract(settings, history)
            pipeline.load(settings, history)
            pipeline.build(settings, "core", history)
            if train:
                modelling.train(settings, LAST_DATE)
            pipeline.build(settings, "marts", history)
            yield settings
        finally:
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value


def _operator(server: EmbeddedPostgres, settings: Settings) -> dict[str, str]:
    server.ensure_database(OPERATOR)
    settings.operator_home.mkdir(parents=True)
    return {
        "KEEPLINE_DEMO_ADMIN_DSN": server.dsn(OPERATOR),
        "KEEPLINE_DEMO_DSN": server.dsn(OPERATOR, "extractor", PASSWORD),
        "KEEPLINE_DEMO_DROPS": str(settings.drops_dir),
    }
