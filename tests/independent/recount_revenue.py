"""Revenue of subscriptions by month: own, and what is collected for partners."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from fractions import Fraction

from independent.landed import (
    ONE_DAY,
    Parameters,
    Row,
    Rows,
    by,
    facts,
    fen,
    half_up,
    local_day,
    month_of,
    newest_versions,
    version_on,
)

Money = dict[tuple[str, date], int]


class Revenue:
    """Own and third-party revenue and recharges by subscription and month, in the smallest unit."""

    def __init__(self, rows: Rows) -> None:
        self.own: Money = defaultdict(int)
        self.third: Money = defaultdict(int)
        self.recharged: Money = defaultdict(int)
        self.paid_with: set[tuple[str, str]] = set()
        self._rows = rows
        self._versions = {
            name: newest_versions(told)
            for name, told in by(rows.get("subscription", ()), "subscription_id").items()
        }
        self._add_bill_lines()
        self._add_recharges()

    def own_of(self, subscription_id: str, *months: date) -> int:
        """Return the own revenue of some months."""
        return sum(self.own.get((subscription_id, month), 0) for month in months)

    def payment_type(self, subscription_id: str, day: date) -> str | None:
        """Return the payment type of a day, nothing for a line that no master names."""
        versions = self._versions.get(subscription_id)
        return version_on(versions, day)["payment_type"] if versions else None

    def _add_bill_lines(self) -> None:
        bills = {
            name: newest_versions(told)[-1]
            for name, told in by(self._rows.get("bill", ()), "bill_id").items()
        }
        for line in facts(self._rows, "bill_line"):
            name, billed = line.get("subscription_id"), line["billed_date"]
            if name is None or line["charge_class"] == "tax":
                continue
            ends = [billed - ONE_DAY]
            if line["bill_id"] in bills:
                ends.append(bills[line["bill_id"]]["period_start"])
            if all(self.payment_type(name, day) == "prepaid" for day in ends):
                continue
            kind = self.third if line["third_party_flag"] else self.own
            kind[name, month_of(billed)] += fen(line["tax_excl_amt"])

    def _add_recharges(self) -> None:
        holdings = by(self._rows.get("subscription_offering", ()), "subscription_id")
        offerings = by(self._rows.get("product_offering", ()), "offering_id")
        for row in facts(self._rows, "recharge"):
            name, day = row["subscription_id"], row["event_date"]
            if row["reversed_flag"]:
                continue
            self.recharged[name, month_of(day)] += fen(row["paid_amt"])
            if self.payment_type(name, day) != "prepaid":
                continue
            net = half_up(fen(row["paid_amt"]) / (1 + tax_share(day)))
            partner, fees = _fees(holdings.get(name, []), offerings, day, row["load_date"])
            third = half_up(Fraction(net * partner, fees)) if fees else 0
            self.third[name, month_of(day)] += third
            self.own[name, month_of(day)] += net - third


def _fees(
    holdings: list[Row], offerings: dict[str, list[Row]], day: date, known_on: date
) -> tuple[int, int]:
    """Return the monthly fees that go to partners, and all, of the holdings held on a day."""
    partner = fees = 0
    known = [row for row in holdings if row["load_date"] <= known_on]
    for told in by(known, "offering_id", "start_at").values():
        holding = newest_versions(told)[-1]
        start, end = local_day(holding["start_at"]), local_day(holding.get("end_at"))
        told_of = offerings.get(holding["offering_id"])
        if start is None or start > day or (end and end <= day) or not told_of:
            continue
        offering = version_on(newest_versions(told_of), day)
        fees += fen(offering.get("monthly_fee_amt"))
        partner += fen(offering.get("monthly_fee_amt")) if offering.get("partner_id") else 0
    return partner, fees


def tax_share(day: date) -> Fraction:
    """Return the tax in what a recharge is spent on, as a share of the price without tax."""
    parameters = Parameters.of_seed("param_tax_rate")
    weighted = whole = Fraction(0)
    for service in parameters.scopes("recharge_mix"):
        part = parameters.get("recharge_mix", service, day) or Fraction(0)
        weighted += part * (parameters.get("tax_rate", service, day) or Fraction(0))
        whole += part
    return weighted / whole
