"""What a stage noted of a period is forgotten when a build replaces the period, and only then."""

from __future__ import annotations

import json
from datetime import date

import pytest
from warehouse import Warehouse

from keepline.build import parse

DAY_1, DAY_2 = date(2026, 3, 1), date(2026, 3, 2)
NOTES = "select period from ops.period_content where relation = 'core.fct_payment' order by period"


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return Warehouse(tmp_path_factory.mktemp("notes"))


def test_a_build_forgets_the_periods_that_it_replaces(warehouse):
    # given a warehouse of two days, both noted by a stage
    warehouse.build("core", DAY_1, DAY_2)
    for day in (DAY_1, DAY_2):
        warehouse.compute.execute(
            "insert into ops.period_content values ('core.fct_payment', 'shape', ?, 1, 'content')",
            [day],
        )

    # when the second day is built again
    warehouse.build("core", DAY_2, DAY_2)

    # then the first is still known
    assert warehouse.compute.execute(NOTES) == [(DAY_1,)]


def test_a_rebuild_forgets_all_periods(warehouse):
    warehouse.build("core", DAY_1, DAY_2)
    warehouse.compute.execute(
        "insert into ops.period_content values ('core.fct_payment', 'shape', ?, 1, 'content')",
        [DAY_1],
    )

    warehouse.build("core", DAY_2, DAY_2, full_refresh=True)

    assert warehouse.compute.execute(NOTES) == []


def test_each_model_that_is_published_by_periods_forgets(warehouse):
    nodes = json.loads(parse(warehouse.settings).read_text())["nodes"].values()
    published = {
        node["name"]: " ".join(hook["sql"] for hook in node["config"]["pre-hook"])
        for node in nodes
        if node["config"].get("meta", {}).get("publish", {}).get("kind") in ("day", "month")
    }

    assert published
    assert [name for name, hooks in published.items() if "ops.period_content" not in hooks] == []
