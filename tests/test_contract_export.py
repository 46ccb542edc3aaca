"""The contract as others read it is what the standard and PostgreSQL take."""

from __future__ import annotations

import json

import jsonschema
import psycopg
import pytest
import yaml
from open_data_contract_standard.model import OpenDataContractStandard
from typer.testing import CliRunner

from keepline import contract_export
from keepline.cli import app
from keepline.contract import Contract, load_contract
from keepline.errors import UsageError
from keepline.settings import PROJECT_DIR

DBT_DIR = PROJECT_DIR / "dbt_project"


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(DBT_DIR)


def exported(*words: str) -> str:
    done = CliRunner().invoke(app, ["contract", "export", *words])
    if done.exception:
        raise done.exception
    return done.stdout


def test_the_standard_takes_its_file(contract):
    text = exported("--format", "odcs")

    jsonschema.validate(yaml.safe_load(text), json.loads(OpenDataContractStandard.json_schema()))
    document = OpenDataContractStandard.from_string(text)
    assert document.apiVersion == "v3.2.0"
    assert [table.name for table in document.schema_] == list(contract)
    columns = {(t.name, c.name): c for t in document.schema_ for c in t.properties}
    assert len(columns) == sum(len(table.columns) for table in contract.values())
    line = columns["bill_line", "line_no"]
    assert (line.primaryKey, line.primaryKeyPosition, line.required) == (True, 2, True)
    assert line.logicalTypeOptions == {"minimum": 1}
    subscription = columns["bill_line", "subscription_id"]
    assert (subscription.primaryKey, subscription.required) == (None, False)
    assert subscription.relationships[0].to == "subscription.subscription_id"
    assert [code.value for code in columns["cdr_voice", "direction"].enum] == ["in", "out"]
    assert columns["party_individual", "phone"].classification == "restricted"
    # Corrections are negative: a minimum of some rows is none of the column.
    assert columns["bill_line", "tax_amt"].logicalTypeOptions is None


def test_its_version_counts_what_was_raised(contract):
    locked = yaml.safe_load((DBT_DIR / "contract.lock.yml").read_text())
    for table in locked.values():
        table["version"] = 1
    locked["bill"]["version"] = 3

    document = yaml.safe_load(contract_export.odcs(contract, yaml.safe_dump(locked)))

    bill = next(table for table in document["schema"] if table["name"] == "bill")
    assert document["version"] == "3"
    assert {"property": "version", "value": 3} in bill["customProperties"]


def test_postgres_takes_the_ddl_and_holds_what_the_contract_says(contract, settings):
    systems = sorted({table.system for table in contract.values()})
    with psycopg.connect(settings.store_dsn.get_secret_value()) as connection:
        connection.execute(exported("--format", "ddl"))
        columns = connection.execute(
            "select table_schema, table_name, column_name, data_type, is_nullable = 'YES',"
            " col_description(format('%%I.%%I', table_schema, table_name)::regclass, ordinal_position)"
            " from information_schema.columns where table_schema = any(%s)",
            [systems],
        ).fetchall()
        keys = connection.execute(
            "select relname::text, array_agg(attname::text order by place)"
            " from pg_constraint inner join pg_class on pg_class.oid = conrelid"
            " cross join unnest(conkey) with ordinality as k (number, place)"
            " inner join pg_attribute on attrelid = conrelid and attnum = number"
            " where contype = 'p' and relnamespace::regnamespace::text = any(%s) group by 1",
            [systems],
        ).fetchall()

    assert {tuple(row[:3]): row[4] for row in columns} == {
        (table.system, table.name, column.name): column.nullable
        for table in contract.values()
        for column in table.columns
    }
    types = {tuple(row[1:3]): row[3] for row in columns}
    assert types["payment", "paid_at"] == "timestamp with time zone"
    assert types["payment", "amt"] == "numeric"
    assert all(row[5] for row in columns)
    said = {tuple(row[1:3]): row[5] for row in columns}
    assert said["cdr_voice", "direction"].endswith(" One of: in, out.")
    assert {name: tuple(key) for name, key in keys} == {
        table.name: table.key for table in contract.values()
    }


def test_another_format_is_refused():
    with pytest.raises(UsageError, match="no format 'xml': choose one of odcs, ddl"):
        exported("--format", "xml")
