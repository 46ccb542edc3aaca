"""The nightly run as it is usually written: pandas in, dbt on PostgreSQL, pandas out.

Whole tables by `read_sql` and the drops by `read_csv`, `to_sql` into raw tables, every model rebuilt by
dbt-postgres, features by `read_sql`, scores in pandas, `to_sql` of scores and marts. It reads the same
operator file and the same contract as keepline does, and builds the same models.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa
import yaml
from psycopg.conninfo import conninfo_to_dict

from keepline.compute.postgres_database import PLANNING
from keepline.contract import Contract, Table, load_contract
from keepline.settings import Settings
from models_ml.churn.parameters import choose_params
from models_ml.churn.reasons import Catalogue
from models_ml.churn.registry import champion_version, load_model_set
from models_ml.churn.scoring import Stamps, score_parts

from .alone import Clock, serve

TYPES: dict[str, Any] = {
    "text": sa.Text(),
    "integer": sa.Integer(),
    "bigint": sa.BigInteger(),
    "decimal(18,2)": sa.Numeric(18, 2),
    "date": sa.Date(),
    "timestamp": sa.DateTime(),
    "boolean": sa.Boolean(),
    "varchar": sa.Text(),
    "double": sa.Float(53),
}
MARTS = (
    "mart_churn_risk_daily",
    "mart_subscriber_movement",
    "mart_rfm_month",
    "mart_pareto_month",
    "mart_coverage",
)
SCORES = "fct_churn_score"
# Rows that go to the server at once; without it pandas makes one list of all.
CHUNK_ROWS = 10_000


class UsualRun:
    """One nightly run.

    Args:
        given: `warehouse` and `store` (DSNs of empty databases), `operator` (DSN of the source), `drops`,
            `models` (folder), `work` (folder for dbt), `first` and `day` (ISO days).
        zone: the operator's time zone.
    """

    def __init__(self, given: Mapping[str, Any], settings: Settings) -> None:
        self._given = given
        self._settings = settings
        self._zone = settings.timezone
        self._first, self._day = (date.fromisoformat(given[name]) for name in ("first", "day"))
        self._source, self._warehouse, self._store = (
            sa.create_engine(_url(given[name])) for name in ("operator", "warehouse", "store")
        )
        self._key = bytes.fromhex(settings.pseudonym_key.get_secret_value())
        self._contract: Contract = load_contract(settings.dbt_dir)
        self.seconds: dict[str, float] = {}

    def run(self) -> int:
        """Run the night; returns the rows that were read."""
        with self._timed("tables and files in"):
            rows = self._load_raw()
            self._analyze()
        with self._timed("dbt core and features"):
            self._dbt("resource_type:seed", "path:models/staging", "path:models/core")
            self._analyze()
            self._dbt("path:models/features")
        with self._timed("score"):
            self._score()
        with self._timed("dbt marts"):
            self._dbt("path:models/marts")
        with self._timed("marts out"):
            self._publish()
        return rows

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[step] = time.perf_counter() - began

    # -- raw -------------------------------------------------------------------------------------

    def _load_raw(self) -> int:
        with self._warehouse.begin() as connection:
            for schema in ("raw", "ml", "ops"):
                connection.execute(sa.text(f"create schema if not exists {schema}"))
        operator = yaml.safe_load(self._settings.operator_file.read_text(encoding="utf-8"))
        rows = 0
        for table in self._contract.values():
            given = operator["tables"].get(table.name)
            self._begin(table)
            if given is None:
                continue
            if "file" in given:
                for folder in sorted(Path(self._given["drops"]).iterdir()):
                    if (
                        folder.is_dir()
                        and self._first <= date.fromisoformat(folder.name) <= self._day
                    ):
                        rows += self._append(table, self._read_drop(table, folder))
            else:
                rows += self._append(table, self._read_table(table, given["sql"]))
        self._make_others()
        return rows

    def _read_table(self, table: Table, select: str) -> pd.DataFrame:
        """Read a table whole, up to the day: what comes later is not known yet."""
        night = pd.Timestamp(self._day + timedelta(days=1), tz=self._zone)
        select = select.replace("operator.", "").replace("{from_at}", "'-infinity'")
        frame = pd.read_sql(select.replace("{to_at}", f"'{night}'"), self._source)
        for name in frame.columns:
            if isinstance(frame[name].dtype, pd.DatetimeTZDtype):
                frame[name] = frame[name].dt.tz_convert("UTC").dt.tz_localize(None)
        frame["load_date"] = self._local_day(frame[table.load_cursor])
        return frame[frame["load_date"] >= self._first]

    def _read_drop(self, table: Table, folder: Path) -> pd.DataFrame:
        with gzip.open(folder / f"{table.name}.csv.gz", "rt") as file:
            frame = pd.read_csv(file, dtype=str, keep_default_na=False, na_values=[""])
        frame["charge_amt"] = frame["charge_amt"].where(
            frame["charge_amt"].str.fullmatch(r"-?\d+(\.\d{1,2})?")
        )
        bad = frame["charge_amt"].isna()
        if "other_number" in frame:
            other = frame.pop("other_number")
            frame["other_number_hash"] = other
            frame["other_prefix"] = other.where(other.str.len() < 11, other.str[:3])
            bad |= ~frame["direction"].isin(["in", "out"])
        if "msisdn" in frame:
            frame["msisdn_hash"] = frame.pop("msisdn")
        for name in (table.event_cursor, table.load_cursor):
            at = pd.to_datetime(
                frame[name], utc=True, errors="coerce", format="%Y-%m-%d %H:%M:%S%z"
            )
            frame[name] = at.dt.tz_localize(None)
            bad |= frame[name].isna()
        if "duration_s" in frame:
            bad |= frame["duration_s"].astype(int) < 0
        frame["load_date"] = date.fromisoformat(folder.name)
        kept = frame[~bad]
        return kept.drop_duplicates(list(table.key)).copy()

    def _append(self, table: Table, frame: pd.DataFrame) -> int:
        for column in table.landed_columns:
            if column.pii == "pseudonym" and column.name in frame:
                known = {
                    value: self._pseudonym(value) for value in frame[column.name].dropna().unique()
                }
                frame[column.name] = frame[column.name].map(known)
            elif column.pii == "masked":
                frame[column.name] = frame[column.name].map(_masked, na_action="ignore")
        if "event_date" not in frame:
            frame["event_date"] = self._local_day(frame[table.event_cursor])
        wanted = [column.name for column in table.landed_columns if column.name in frame]
        frame[[*wanted, "load_date"]].to_sql(
            table.name, self._warehouse, schema="raw", if_exists="append", index=False,
            dtype=_sql_types(table), chunksize=CHUNK_ROWS,
        )  # fmt: skip
        return len(frame)

    def _begin(self, table: Table) -> None:
        types = _sql_types(table)
        pd.DataFrame(columns=list(types)).to_sql(
            table.name, self._warehouse, schema="raw", if_exists="replace", index=False, dtype=types
        )

    def _make_others(self) -> None:
        """Make the tables that the models read and that dbt does not build."""
        for path in sorted(self._settings.dbt_dir.rglob("*__sources.yml")):
            for source in yaml.safe_load(path.read_text(encoding="utf-8"))["sources"]:
                if source["schema"] == "raw":
                    continue
                for table in source["tables"]:
                    types = {c["name"]: TYPES[c["data_type"]] for c in table["columns"]}
                    pd.DataFrame(columns=list(types)).to_sql(
                        table["name"], self._warehouse, schema=source["schema"], if_exists="replace",
                        index=False, dtype=types,
                    )  # fmt: skip

    def _pseudonym(self, value: str) -> str:
        return hmac.new(self._key, value.encode(), hashlib.sha256).hexdigest()

    def _local_day(self, at: pd.Series[Any]) -> pd.Series[Any]:
        if not pd.api.types.is_datetime64_any_dtype(at):
            return pd.to_datetime(at).dt.date
        return at.dt.tz_localize("UTC").dt.tz_convert(self._zone).dt.date

    # -- dbt -------------------------------------------------------------------------------------

    def _dbt(self, *selection: str) -> None:
        from dbt.cli.main import dbtRunner

        # The models are keepline's: without what they need of a session, PostgreSQL loops for hours.
        os.environ["PGOPTIONS"] = PLANNING
        work = Path(self._given["work"])
        work.mkdir(parents=True, exist_ok=True)
        (work / "profiles.yml").write_text(yaml.safe_dump(_profile(self._given["warehouse"])))
        variables = {
            "timezone": self._zone,
            "window_from": str(self._first),
            "window_to": str(self._day + timedelta(days=1)),
            "as_of_dates": [str(self._day)],
            "known_on": str(self._day),
        }
        done = dbtRunner().invoke(
            ["build", "--full-refresh", "--select", *selection, "--exclude-resource-type", "unit_test",
             "--exclude-resource-type", "test", "--vars", json.dumps(variables), "--target", "postgres",
             "--project-dir", str(self._settings.dbt_dir), "--profiles-dir", str(work), "--target-path",
             str(work / "target"), "--log-path", str(work / "logs"), "--log-level", "none",
             "--no-version-check"]
        )  # fmt: skip
        if not done.success:
            failed = [r for r in getattr(done.result, "results", ()) if str(r.status) == "error"]
            said = failed[0].message if failed else done.exception
            raise RuntimeError(f"dbt: {' '.join(str(said).split())}")

    def _analyze(self) -> None:
        """Tell the planner of what was just made; autovacuum would come a minute too late for the night."""
        with self._warehouse.connect().execution_options(
            isolation_level="AUTOCOMMIT"
        ) as connection:
            connection.execute(sa.text("analyze"))

    # -- scores and marts ------------------------------------------------------------------------

    def _score(self) -> None:
        features = pd.read_sql(
            f"select * from features.feat_subscription_asof where as_of_date = '{self._day}'",
            self._warehouse,
        )
        for name in features.columns:
            values = features[name].dropna()
            if len(values) and values.map(type).eq(bool).all():
                features[name] = features[name].astype("float64")
        risk, words = (
            pd.read_sql(f"select * from seeds.{name}", self._warehouse)
            for name in ("param_risk_tier", "feature_catalog")
        )
        models_dir = Path(self._given["models"])
        version = champion_version(models_dir)
        models = load_model_set(models_dir, version) if version else None
        scores = score_parts(
            lambda: [features], models, choose_params(risk, self._day), Catalogue.from_frame(words),
            Stamps(self._day, "usual", "usual"),
        )  # fmt: skip
        scores.to_sql(
            SCORES, self._warehouse, schema="ml", if_exists="append", index=False,
            chunksize=CHUNK_ROWS,
        )  # fmt: skip

    def _publish(self) -> None:
        for mart in MARTS:
            frame = pd.read_sql(f"select * from marts.{mart}", self._warehouse)
            frame.to_sql(mart, self._store, if_exists="replace", index=False, chunksize=CHUNK_ROWS)


def _url(dsn: str) -> sa.URL:
    said = conninfo_to_dict(dsn)
    return sa.URL.create(
        "postgresql+psycopg2", username=str(said["user"]), password=str(said["password"]),
        host=str(said["host"]), port=int(str(said["port"])), database=str(said["dbname"]),
    )  # fmt: skip


def _masked(value: str) -> str:
    return f"{value[:3]}****{value[-4:]}" if len(value) >= 11 else "****"


def _sql_types(table: Table) -> dict[str, Any]:
    types = {column.name: TYPES[column.data_type] for column in table.landed_columns}
    return types | {"load_date": TYPES["date"]}


def _profile(dsn: str) -> dict[str, Any]:
    url = _url(dsn)
    output = {
        "type": "postgres", "host": url.host, "port": url.port, "user": url.username,
        "password": url.password, "dbname": url.database, "schema": "core", "threads": 2,
    }  # fmt: skip
    return {"keepline": {"target": "postgres", "outputs": {"postgres": output}}}


def _usual(given: Mapping[str, Any], clock: Clock) -> int:
    run = UsualRun(given, Settings.load())
    with clock:
        rows = run.run()
    clock.more["steps"] = run.seconds
    return rows


if __name__ == "__main__":
    serve({"usual": _usual})
