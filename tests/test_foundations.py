"""Settings, windows and the contract refuse what they cannot use, in words."""

from __future__ import annotations

import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import grimp
import networkx
import psycopg
import pytest

from keepline import store
from keepline.contract import load_contract
from keepline.embedded import EmbeddedPostgres
from keepline.errors import SourceUnavailableError, UsageError
from keepline.settings import PROJECT_DIR, Settings
from keepline.window import Window


def test_a_window_has_its_first_day_and_not_its_last():
    window = Window(date(2026, 2, 27), date(2026, 3, 2))

    assert window.days() == [date(2026, 2, 27), date(2026, 2, 28), date(2026, 3, 1)]
    assert Window.day(date(2026, 2, 28)).days() == [date(2026, 2, 28)]


@pytest.mark.parametrize("to_date", [date(2026, 3, 1), date(2026, 2, 28)])
def test_a_window_without_a_day_is_refused(to_date):
    with pytest.raises(UsageError, match="holds no day"):
        Window(date(2026, 3, 1), to_date)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("KEEPLINE_OPERATER", "demo", "unknown setting KEEPLINE_OPERATER"),
        ("KEEPLINE_OPERATOR", "../etc", "KEEPLINE_OPERATOR"),
        ("KEEPLINE_TIMEZONE", "Mars/Olympus", "KEEPLINE_TIMEZONE"),
        ("KEEPLINE_COMPUTE", "abacus", "KEEPLINE_COMPUTE"),
        ("KEEPLINE_STORE_PORT", "many", "KEEPLINE_STORE_PORT"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch, tmp_path, name, value, message):
    monkeypatch.setenv("KEEPLINE_HOME", str(tmp_path))
    monkeypatch.setenv(name, value)

    with pytest.raises(UsageError, match=message):
        Settings.load()


def test_secrets_are_made_once_and_only_for_the_owner(monkeypatch, tmp_path):
    monkeypatch.setenv("KEEPLINE_HOME", str(tmp_path / "home"))

    first, second = Settings.load(), Settings.load()

    assert len(bytes.fromhex(first.pseudonym_key.get_secret_value())) == 32
    assert first.pseudonym_key == second.pseudonym_key
    for path in (tmp_path / "home" / "secrets").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first.pseudonym_key.get_secret_value() not in repr(first)


def test_a_secret_from_the_environment_beats_the_generated_one(monkeypatch, tmp_path):
    monkeypatch.setenv("KEEPLINE_HOME", str(tmp_path))
    monkeypatch.setenv("KEEPLINE_VAULT_KEY", "ab" * 32)

    assert Settings.load().vault_key.get_secret_value() == "ab" * 32


def test_every_contract_table_has_a_key_and_clocks():
    contract = load_contract(PROJECT_DIR / "dbt_project")

    assert {"subscription", "cdr_voice", "bill_line", "recharge", "np_port"} <= set(contract)
    subscription = contract["subscription"]
    assert subscription.column("msisdn_hash").pii == "pseudonym"
    assert "msisdn" not in [column.name for column in subscription.landed_columns]
    assert subscription.landed_columns[-1].name == "event_date"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("customer.yml", "load_cursor: updated_at", "load_cursor: updated", "the column updated"),
        ("customer.yml", "data_type: boolean", "data_type: bool", "type bool is not one of"),
        ("party_individual.yml", "pii: vault", "pii: safe", "pii safe is not one of"),
        ("customer.yml", "- name: customer\n", "- name: client\n", "is for crm.customer in raw"),
        ("customer.yml", "schema: raw", "schema: core", "is for crm.customer in raw"),
        ("customer.yml", "    schema: raw\n", "", "'schema' is missing"),
        (
            "customer.yml",
            "Customer relationship",
            "Client",
            "the description of crm is not that of",
        ),
        ("customer.yml", "feeds: dim_customer", "", "'feeds' is missing"),
        ("customer.yml", "volume: changes", "", "'volume' is missing"),
        ("customer.yml", "feeds: dim_customer", "feeds: customer", "neither a fact"),
        ("customer.yml", "feeds: dim_customer", "feeds: {name: x}", "missing or wrong"),
        ("customer.yml", "volume: changes", "volume: change", "volume change is not one of"),
        ("customer.yml", "EARLY_FACT", "EARLY", "when_unknown EARLY is not one of"),
        ("customer.yml", "every_day:", "everyday:", "everyday: no such word"),
        ("customer.yml", "references: ", "refers: ", "column province_code: refers: no such word"),
        ("customer.yml", "references: ref.", "references: ", "is not <system>.<table>.<column>"),
        ("customer.yml", "ref.geography", "crm.geography", "which is not in the contract"),
        ("payment.yml", "{references: crm.billing_account.account_id}", "{}", "write `references"),
        (
            "subscription_offering.yml",
            "fct_offering_holding",
            "dim_x",
            "its key must be one column",
        ),
        (
            "interaction.yml",
            "{codes: [in, out]",
            "{total: true, codes: [in, out]",
            "a text adds up",
        ),
        ("source_key.yml", "[customer,", "[customers,", "has customers among the codes"),
    ],
)
def test_a_broken_contract_is_refused_with_its_place(tmp_path: Path, file, old, new, message):
    folder = tmp_path / "models" / "staging"
    shutil.copytree(PROJECT_DIR / "dbt_project" / "models" / "staging", folder)
    (path,) = folder.glob(f"*/{file}")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))

    with pytest.raises(UsageError, match=rf"({file}|key list).*{message}"):
        load_contract(tmp_path)


def test_the_embedded_server_keeps_its_data_over_a_restart(tmp_path):
    server = EmbeddedPostgres(tmp_path, "secret")
    server.start()
    server.start()
    try:
        server.ensure_database("one")
        server.ensure_database("one")
        with psycopg.connect(server.dsn("one")) as connection:
            connection.execute("create table kept as select 42 as answer")
        server.stop()
        server.start()
        with psycopg.connect(server.dsn("one")) as connection:
            assert connection.execute("select answer from kept").fetchone() == (42,)
    finally:
        server.remove()


def test_servers_that_start_at_the_same_moment_take_different_ports(tmp_path):
    servers = [EmbeddedPostgres(tmp_path / name, "secret") for name in ("a", "b", "c")]
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(EmbeddedPostgres.start, servers))

        assert len({server.port for server in servers}) == 3
        for server in servers:
            with psycopg.connect(server.dsn("postgres")) as connection:
                assert connection.execute("select 1").fetchone() == (1,)
    finally:
        for server in servers:
            server.remove()


def test_a_store_that_is_not_there_is_named_without_its_password(settings):
    gone = settings.model_copy(
        update={
            "store_dsn": type(settings.store_dsn)("host=127.0.0.1 port=9 password=s3cret dbname=x")
        }
    )

    with pytest.raises(SourceUnavailableError, match=r"127\.0\.0\.1:9") as caught:
        store.connect(gone)
    assert "s3cret" not in str(caught.value)


def test_no_module_imports_itself_in_a_circle():
    graph = grimp.build_graph(
        "keepline", "models_ml", "expectations", exclude_type_checking_imports=True
    )
    imports = networkx.DiGraph(
        (module, read)
        for module in graph.modules
        for read in graph.find_modules_directly_imported_by(module)
    )

    assert len(imports) > 150
    assert [c for c in networkx.strongly_connected_components(imports) if len(c) > 1] == []


def test_the_embedded_server_is_reached_whatever_is_asked_of_other_servers(postgres, monkeypatch):
    monkeypatch.setenv("PGSSLMODE", "require")
    monkeypatch.setenv("PGGSSENCMODE", "require")
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "standby")

    with psycopg.connect(postgres.dsn("postgres")) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
