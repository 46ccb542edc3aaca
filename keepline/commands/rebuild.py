"""`keepline rebuild`: what compute holds is made anew from landing and the kept scores.

It is made apart (a file in a folder of its own, or a database of its own) and takes the old one's place in
one move when it is complete, so that a rebuild which dies changes nothing. Whatever is in compute can be
made again: it is never the only copy of anything.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path

import yaml
from pydantic import SecretStr

from keepline import home, lease, ops, store
from keepline.build import build as build_layer
from keepline.commands.context import stage
from keepline.compute import compute_for
from keepline.contract import load_contract
from keepline.errors import KeeplineError, UsageError
from keepline.failpoint import reach
from keepline.landed_files import expect_recorded
from keepline.parts import landed_window
from keepline.progress import progress
from keepline.settings import Settings
from keepline.window import Window

SCORE_TABLE = "ml.fct_churn_score"
ONE_DAY = timedelta(days=1)

SCORE_DATE = "score_date"


def rebuild(settings: Settings) -> None:
    """Make anew what compute holds and put it in the place of the old, damaged or not.

    Features are left out: no mart reads them, and scoring and training build those that they need.

    Raises:
        UsageError: nothing has landed.
        KeeplineError: landing or a score file is damaged, or a model fails; the old stays.
    """
    contract = load_contract(settings.dbt_dir)
    landed = landed_window(settings)
    if landed is None:
        with store.connect(settings) as connection:
            expect_recorded(settings.landing_dir, ops.landed_batches(connection), contract)
        raise UsageError(
            f"nothing has landed in {settings.landing_dir}, so there is nothing to rebuild from"
        )
    with lease.hold(settings, "rebuild", str(landed)), stage(settings, "rebuild", landed) as clock:
        with store.connect(settings) as connection:
            # All of it: the first days may be those that vanished.
            expect_recorded(settings.landing_dir, ops.landed_batches(connection), contract)
            loaded = ops.last_done(connection, "load") or landed.last_date
            built = ops.last_done(connection, "build core")
        days = 0
        try:
            apart = _apart(settings)
            first = landed.from_date
            if built is not None:
                clock.rows = _load(apart, first, built)
                _build(apart, "core", Window(first, built + ONE_DAY))
                days = _load_scores(apart)
                _build(apart, "marts", Window(first, built + ONE_DAY))
                first = built + ONE_DAY
            # Loaded, but not built so far: the next run goes on from there.
            if loaded >= first:
                clock.rows += _load(apart, first, loaded)
            reach("rebuild.complete")
            with lease.committing():
                compute_for(settings).take_place(apart)
        finally:
            shutil.rmtree(_folder(settings), ignore_errors=True)
            with suppress(KeeplineError):  # the next rebuild drops it
                compute_for(settings).drop_apart()
        clock.message = f"{days} score dates; what was there before is gone"


# -- apart from what others read -------------------------------------------------------------------


def _folder(settings: Settings) -> Path:
    return settings.operator_home / ".rebuild"


def _apart(settings: Settings) -> Settings:
    """Return settings whose compute is a new one, all else being the operator's own."""
    folder = _folder(settings)
    # What a killed rebuild left behind.
    shutil.rmtree(folder, ignore_errors=True)
    apart = settings.model_copy(
        update={"home": folder, "store_dsn": SecretStr(store.dsn(settings))}
    )
    apart.operator_home.mkdir(parents=True)
    for mine, own in (
        # The same home: what connects from there works on its store.
        (apart.home / home.FILE, settings.home / home.FILE),
        (apart.landing_dir, settings.landing_dir),
        (apart.exchange_dir, settings.exchange_dir),
    ):
        mine.symlink_to(own)
    return compute_for(settings).apart(apart)


# -- the steps of a run, apart --------------------------------------------------------------------


def _load(apart: Settings, first: date, last: date) -> int:
    with progress("load") as update:
        rows = compute_for(apart).load(
            load_contract(apart.dbt_dir), Window(first, last + ONE_DAY), update
        )
    return sum(rows.values())


def _build(apart: Settings, layer: str, window: Window) -> None:
    with progress(f"build {layer}") as update:
        build_layer(apart, layer, window, progress=update)


def _load_scores(apart: Settings) -> int:
    """Load the current scores of every day; returns how many days there are."""
    from models_ml.churn.score_shelf import current_scores

    scores_dir = apart.exchange_dir / "scores"
    days = sorted(
        date.fromisoformat(path.name.removeprefix(f"{SCORE_DATE}="))
        for path in scores_dir.glob(f"{SCORE_DATE}=*")
    )
    files = {day: path for day in days if (path := current_scores(scores_dir, day)) is not None}
    compute_for(apart).replace_partition(
        SCORE_TABLE, score_columns(apart.dbt_dir), list(files.values()), SCORE_DATE, list(files)
    )
    return len(files)


def score_columns(dbt_dir: Path) -> dict[str, str]:
    """Return type by column of the score table, as dbt's source YAML declares it."""
    path = dbt_dir / "models" / "features" / "_ml__sources.yml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    table = next(
        table
        for source in document["sources"]
        for table in source["tables"]
        if table["name"] == SCORE_TABLE.split(".")[1]
    )
    return {column["name"]: column["data_type"] for column in table["columns"]}
