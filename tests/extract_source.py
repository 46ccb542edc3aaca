"""A small operator for the extraction tests: call records in drops that a test writes line by line."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from keepline import store
from keepline.extract import IncompleteError, extract_window
from keepline.extract.query import QueryDelivery
from keepline.landed_files import OWN_COLUMNS, PART, exact, parts_sql
from keepline.settings import PROJECT_DIR, Settings
from keepline.window import Window

DAY = date(2026, 6, 30)
COLUMNS = (
    "usage_id,subscription_id,msisdn,other_number,direction,start_at,duration_s,cell_id,roam_type,"
    "call_type,status,received_at,charge_amt"
)
OPERATOR = """
name: demo
description: a small operator
files:
  drops: {path_env: KEEPLINE_DEMO_DROPS, layout: "{date}/{file}.csv.gz", manifest: "{date}/manifest.json"}
tables:
  cdr_voice:
    file: cdr_voice
    sql: |
      select
          usage_id, subscription_id, msisdn as msisdn_hash, other_number as other_number_hash,
          left(other_number, 3) as other_prefix, direction, start_at, duration_s, cell_id, roam_type,
          call_type, status, received_at, charge_amt
      from records
"""


def call(number: int, day: date = DAY, **changes: str) -> str:
    """Return a good record of a call, with some columns changed."""
    values = {
        "usage_id": f"V{number:04d}",
        "subscription_id": f"S{number % 7}",
        "msisdn": f"139000{number:05d}",
        "other_number": f"138000{number % 5:05d}",
        "direction": "out",
        "start_at": f"{day} 09:{number % 60:02d}:00+08:00",
        "duration_s": str(10 + number),
        "cell_id": "GD01",
        "roam_type": "home",
        "call_type": "local",
        "status": "completed",
        "received_at": f"{day} 10:00:00+08:00",
        "charge_amt": "0.15",
    }
    return ",".join({**values, **changes}[name] for name in COLUMNS.split(","))


def calls(count: int, day: date = DAY) -> list[str]:
    """Return good records."""
    return [call(number, day) for number in range(count)]


class Mediation:
    """Writes drops; `said` overrides what the manifest says of the file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, day: date = DAY) -> Path:
        return self.folder / day.isoformat() / "cdr_voice.csv.gz"

    def deliver(
        self, lines: Sequence[str], day: date = DAY, header: str = COLUMNS, **said: Any
    ) -> None:
        text = "".join(f"{line}\n" for line in [header, *lines])
        self.deliver_bytes(gzip.compress(text.encode(), mtime=0), len(lines), day, **said)

    def deliver_bytes(self, content: bytes, rows: int, day: date = DAY, **said: Any) -> None:
        path = self.path(day)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        entry = {
            "name": path.name,
            "table": "cdr_voice",
            "rows": rows,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "sums": {},
            **said,
        }
        manifest = {"date": day.isoformat(), "files": [entry]}
        (path.parent / "manifest.json").write_text(json.dumps(manifest))


class Extraction:
    """Runs the extraction with an operator file of the test and reads what came of it."""

    def __init__(self, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = settings
        self._monkeypatch = monkeypatch
        self.operator_file = folder / "demo.yml"
        self.operator_file.write_text(OPERATOR)
        self.drops = folder / "drops"
        self.drops.mkdir()
        self.mediation = Mediation(self.drops)
        with store.connect(settings, autocommit=True) as connection:
            ddl = PROJECT_DIR / "keepline" / "release" / "sql" / "ops.sql"
            connection.execute(ddl.read_bytes())
        monkeypatch.setattr(Settings, "operator_file", property(lambda _: self.operator_file))
        monkeypatch.setenv("KEEPLINE_DEMO_DROPS", str(self.drops))
        # Nothing here is in a database: without an address the verbs would start a server for it.
        monkeypatch.setenv("KEEPLINE_DEMO_DSN", os.environ.get("KEEPLINE_DEMO_DSN", "host=none"))

    def note_counts(self) -> list[str]:
        """Return a list that gets every statement by which a source is asked to count from now on."""
        asked: list[str] = []
        count = QueryDelivery._count

        def counted(delivery: QueryDelivery, counting: str, summed: Sequence[str]) -> None:
            asked.append(counting)
            count(delivery, counting, summed)

        self._monkeypatch.setattr(QueryDelivery, "_count", counted)
        return asked

    def run(self, window: Window | date = DAY, *tables: str, ticket: str = "") -> Any:
        """Extract and return the results of the tables that the operator provides, by name."""
        chosen = window if isinstance(window, Window) else Window.day(window)
        results = extract_window(self.settings, chosen, list(tables) or None, accept_changed=ticket)
        return {result.table_name: result for result in results if result.provided}

    def held(self, window: Window | date = DAY, ticket: str = "") -> list[str]:
        """Extract, and return the codes of why something was held."""
        with pytest.raises(IncompleteError) as raised:
            self.run(window, ticket=ticket)
        return [finding.code for finding in raised.value.findings]

    def landed(self, table: str = "cdr_voice", columns: str = "*") -> list[tuple[Any, ...]]:
        """Return what is in landing, by load date and in the order of the files."""
        return self._rows(self.settings.landing_dir / table, PART, columns)

    def quarantined(self, columns: str, table: str = "cdr_voice") -> list[tuple[Any, ...]]:
        """Return what is in quarantine, in the order of the files."""
        return self._rows(self.settings.quarantine_dir / table, "rows.parquet", columns)

    def manifest(self, day: date = DAY, table: str = "cdr_voice") -> Any:
        """Return the manifest of a partition."""
        path = self.settings.landing_dir / table / f"load_date={day}" / "_manifest.json"
        return json.loads(path.read_text())

    def files(self) -> dict[str, bytes]:
        """Return every file below landing and quarantine with its bytes."""
        return {
            str(path.relative_to(self.settings.operator_home)): path.read_bytes()
            for folder in (self.settings.landing_dir, self.settings.quarantine_dir)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def _rows(self, folder: Path, name: str, columns: str) -> list[tuple[Any, ...]]:
        files = [exact(path) for path in sorted(folder.glob(f"load_date=*/{name}"))]
        if not files:
            return []
        # In quarantine a row bears its load date itself.
        relation = parts_sql() if name == PART else OWN_COLUMNS
        return duckdb.execute(f"select {columns} from {relation}", [files]).fetchall()


# Recharges in files of a day each; `layout` and `format` are the test's.
RECHARGES = """
name: demo
description: recharges, a file a day
files:
  drops: {path_env: KEEPLINE_DEMO_DROPS, layout: "LAYOUT", format: FORMAT}
tables:
  recharge:
    file: recharge
    sql: |
      select
          id as recharge_id, line as subscription_id, made as recharged_at, face as face_amt,
          paid as paid_amt, false as reversed_flag
      from records
"""
RECHARGE_HEADER = "id,line,made,face,paid"


def recharges(
    extraction: Extraction, layout: str = "{date}/{file}.csv", form: str = "csv", sql: str = ""
) -> None:
    """Let the operator deliver recharges in files of a day each."""
    text = RECHARGES.replace("LAYOUT", layout).replace("FORMAT", form)
    if sql:
        text = text[: text.index("    sql: |")] + f"    sql: |\n      {sql}\n"
    extraction.operator_file.write_text(text)


def recharge(number: int, day: date = DAY, **changes: str) -> str:
    """Return a good record of a recharge, with some columns changed."""
    values = {
        "id": f"R{number}",
        "line": f"S{number}",
        "made": f"{day} 09:{number % 60:02d}:00",
        "face": "50.00",
        "paid": "49.90",
    }
    return ",".join({**values, **changes}.values())


def put(folder: Path, name: str, *lines: str) -> Path:
    """Write a text file of lines below a folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
