"""The reference tables, and the few changes that they see."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np

from keepline.simulator import schema, world
from keepline.simulator.population import Array
from keepline.simulator.rhythm import DAY_S, NEVER, holidays
from keepline.simulator.sink import Sink
from keepline.simulator.world import COUNTIES, DEALERS, OFFERINGS

RENAMED_DAY = 95
REGRADED_DAY = 130


def _columns(rows: Sequence[Sequence[Any]], names: str) -> dict[str, Any]:
    columns = list(zip(*rows, strict=True))
    return {
        name: np.array(values, dtype=object if isinstance(values[0], str) else None)
        for name, values in zip(names.split(), columns, strict=True)
    }


def first_rows(sink: Sink, start: date, recorded: int) -> None:
    """Record every reference table as it stands when the history begins."""

    def day(year: int) -> int:
        return (date(year, 1, 1) - start).days

    operators = zip(world.OPERATORS, world.OPERATOR_NAMES, world.OPERATOR_TYPES, strict=True)
    sink.add(
        "ref.operator",
        **_columns(
            [(*row, row[0] == world.OPERATORS[world.OWN]) for row in operators],
            "operator_code name type own_flag",
        ),
        updated_at=recorded,
    )
    ranges = [
        (p, code) for code, own in zip(world.OPERATORS, world.PREFIXES, strict=True) for p in own
    ]
    sink.add(
        "ref.number_range",
        **_columns(ranges, "prefix operator_code"),
        valid_from=day(2000),
        valid_to=NEVER,
        updated_at=recorded,
    )
    hotlines = list(zip(world.HOTLINES, world.OPERATORS[1:], strict=True))
    sink.add(
        "ref.competitor_hotline", **_columns(hotlines, "number operator_code"), updated_at=recorded
    )
    special = [((d - start).days, name, worked) for d, name, worked in holidays()]
    sink.add(
        "ref.holiday",
        **_columns(special, "holiday_date name workday_flag"),
        updated_at=recorded,
    )
    _geography(sink, np.arange(len(COUNTIES)), recorded)
    brands = [
        (code, name, None if k < world.CAMPUS else "BREEZE", world.OPERATORS[world.OWN], day(year))
        for k, (code, name, year) in enumerate(
            zip(world.BRANDS, world.BRAND_NAMES, (2004, 2009, 2016), strict=True)
        )
    ]
    sink.add(
        "ref.brand",
        **_columns(brands, "brand_code name parent_brand_code operator_code valid_from"),
        valid_to=NEVER,
        updated_at=recorded,
    )
    dealers(sink, np.arange(len(DEALERS)), day(2015), recorded)


def _geography(sink: Sink, at: Array, recorded: int, suffix: str = "") -> None:
    rows = [
        (
            c.county_code,
            c.county_name + suffix,
            c.city_code,
            c.city_name,
            c.province_code,
            c.province_name,
            c.region_name,
            c.urban,
        )
        for c in (COUNTIES[k] for k in at)
    ]
    names = "county_code county_name city_code city_name province_code province_name region_name urban_flag"
    sink.add("ref.geography", **_columns(rows, names), updated_at=recorded)


def dealers(sink: Sink, at: Array, since: int, recorded: int, level: int | None = None) -> None:
    """Record dealers; `level` overrides their grade."""
    chosen = [DEALERS[k] for k in at]
    sink.add(
        "chn.dealer",
        dealer_id=at,
        name=np.array([d.name for d in chosen], dtype=object),
        type=[d.type for d in chosen],
        level=[d.level for d in chosen] if level is None else level,
        province_code=[d.province for d in chosen],
        city_code=[d.city for d in chosen],
        valid_from=since,
        valid_to=NEVER,
        updated_at=recorded,
    )


class Catalogue:
    """The offerings with their present fees; the operator raises one and stops selling another."""

    def __init__(self, sink: Sink, start: date, recorded: int) -> None:
        self._sink = sink
        self._since = (date(2023, 1, 1) - start).days
        self._until = np.full(len(OFFERINGS), NEVER)
        self.fee = np.array([o.fee for o in OFFERINGS])
        self.fee_after = np.array([o.fee_after for o in OFFERINGS])
        self._record(np.arange(len(OFFERINGS)), recorded)

    @property
    def on_sale(self) -> Array:
        """Which main offerings can be bought."""
        flags: Array = self._until[: world.N_MAIN] == NEVER
        return flags

    def run(self, day: int) -> Array:
        """Make the day's changes; returns the offerings whose fee rose."""
        recorded = day * DAY_S + 1200
        if day == world.CLOSED_FOR_SALE_DAY:
            closed = np.array([schema.OFFERING_IDS.index(world.CLOSED_FOR_SALE)])
            self._until[closed] = day
            self._record(closed, recorded)
        if day == world.PRICE_RISE_DAY:
            name, fee = world.PRICE_RISE
            raised = np.array([schema.OFFERING_IDS.index(name)])
            self.fee[raised] = self.fee_after[raised] = fee
            self._record(raised, recorded)
            return raised
        return np.array([], dtype=int)

    def _record(self, at: Array, recorded: int) -> None:
        chosen = [OFFERINGS[k] for k in at]
        self._sink.add(
            "bss.product_offering",
            offering_id=at,
            name=np.array([o.name for o in chosen], dtype=object),
            family=[world.FAMILIES.index(o.family) for o in chosen],
            brand_code=[-1 if o.brand is None else o.brand for o in chosen],
            monthly_fee=self.fee[at],
            voice_min=[o.voice_min for o in chosen],
            data_mb=[o.data_mb for o in chosen],
            sms_cnt=[o.sms_cnt for o in chosen],
            promo_months=[o.promo_months for o in chosen],
            price_after=self.fee_after[at],
            network_gen=[world.GENERATIONS.index(o.network_gen) for o in chosen],
            partner_id=[world.PARTNERS.index(o.partner) if o.partner else -1 for o in chosen],
            valid_from=self._since,
            valid_to=self._until[at],
            updated_at=recorded,
        )


def later_rows(sink: Sink, day: int, start: date) -> None:
    """Make the reference tables' changes of a day: a county gets a new name, two dealers a new grade."""
    if day == RENAMED_DAY:
        _geography(sink, np.array([len(COUNTIES) - 1]), day * DAY_S + 1200, " New District")
    if day == REGRADED_DAY:
        since = (date(2015, 1, 1) - start).days
        dealers(sink, np.array([1, 4]), since, day * DAY_S + 1200, level=0)
