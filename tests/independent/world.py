"""Small random worlds: some subscriptions over some months, to whom everything happens.

The rows are those of the contract tables after landing. Ids are random texts, so that no order of
ids means anything. The same seed makes the same world.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from independent.landed import AHEAD_OF_UTC, LOOK_BACK_DAYS, ONE_DAY, Row, Rows, local_day

OPERATORS = {"own": "138", "rival": "186", "third": "151"}
REASONS = ("price", "service", "port_out", "moving", "non_payment", "fraud", "other", None)
PLANS = {"plan-39": 39, "plan-29": 29, "plan-19": 19, "plan-19-again": 19}
ADD_ONS = {"pack": (10, None), "music": (12, "partner-a"), "games": (5, "partner-b")}
PLAN_CHANGES = ("ordered ahead", "ended", "restated", "recorded twice", "late")
CHANGE_FEEDS = ("bill", "np_port", "subscription_offering", "trouble_ticket")
# Just short of, just at and beyond the 90 days after which a silence is a loss.
SILENCES = (30, 60, 88, 89, 90, 91, 92, 93, 100, 120, 150)


@dataclass
class World:
    """The rows of a world and the span of its load dates."""

    first: date
    last: date
    rows: Rows = field(default_factory=dict)
    changes: int = 0

    def put(self, table: str, event_day: date, load_date: date, **values: Any) -> None:
        """Add a row unless it becomes known only after the end of the world."""
        load_date = max(load_date, self.first)
        if load_date <= self.last:
            row = {name: _typed(name, value) for name, value in values.items()}
            row |= {"event_date": event_day, "load_date": load_date}
            if table in CHANGE_FEEDS:
                # Two changes of one key have two times.
                self.changes += 1
                row["updated_at"] = values.get("updated_at", at(load_date, 19)) + timedelta(
                    seconds=self.changes % 3600
                )
            self.rows.setdefault(table, []).append(row)

    def join(self, other: World) -> None:
        """Take the rows of another world in."""
        for table, rows in other.rows.items():
            self.rows.setdefault(table, []).extend(rows)


def small_world(seed: int, first: date = date(2025, 10, 1), months: int = 9) -> World:
    """Return a world of 8 to 25 subscriptions."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    world = World(first, first + timedelta(days=30 * months + chance.randrange(0, 9)))
    brands = [f"{_word(chance)}-brand" for _ in range(chance.randint(1, 2))]
    _catalogue(world, chance)
    for _ in range(chance.randint(8, 25)):
        _Line(world, chance, brands).live()
    # From numbers of its own, after all else: the rest of the world is as it was without.
    _commit(world, random.Random(f"commitments {seed}"))  # noqa: S311 - repeatable, not secret
    return world


def crowd(seed: int, worlds: int, first: date = date(2025, 10, 1), months: int = 9) -> World:
    """Return several worlds that share their days and nothing else."""
    last = first + timedelta(days=30 * months + 5)
    whole = World(first, last)
    for number in range(worlds):
        one = small_world(seed * 1000 + number, first, months)
        one.rows = {
            table: [row for row in rows if row["load_date"] <= last]
            for table, rows in one.rows.items()
            if number == 0 or table not in ("operator", "number_range", "product_offering")
        }
        whole.join(one)
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    if chance.random() < 0.6:
        _key_lists(whole, chance)
    _quiet_days(whole, chance)
    return whole


def _commit(world: World, chance: random.Random) -> None:
    """Give main holdings a commitment, and let all that can happen to one happen."""
    mains = [row for row in world.rows.get("subscription_offering", ()) if row["role"] == "main"]
    for row in mains:
        if chance.random() < 0.6:
            row["contract_end_date"] = _commitment(chance, row["start_at"].date())
    for row in mains:
        for what in chance.sample(sorted(PLAN_CHANGES), chance.choice([0, 1, 1, 2, 3])):
            day = row["load_date"] + timedelta(days=chance.choice([0, 1, 5, 30, 90]))
            _change_plan(world, chance, what, row, day)


def _commitment(chance: random.Random, begin: date) -> date | None:
    # Over, running or far ahead: the day itself ends nothing.
    days = chance.choice([None, 0, 30, 180, 365, 730])
    return None if days is None else begin + timedelta(days=days)


def _change_plan(world: World, chance: random.Random, what: str, row: Row, load_date: date) -> None:
    """Tell one change of a main holding, recorded on the load date unless it comes late."""
    told = {**row, "load_date": load_date, "updated_at": _recorded(chance, load_date)}
    told["contract_end_date"] = _commitment(chance, load_date)
    rows = [told]
    if what == "ordered ahead":
        begin = load_date + timedelta(days=chance.choice([1, 2, 30, 60]))
        told["start_at"], told["end_at"] = at(begin, chance.choice([0, 9, 23.9])), None
        told["offering_id"] = chance.choice([row["offering_id"], *PLANS])
    elif what == "ended":
        told["contract_end_date"] = row.get("contract_end_date")
        told["end_at"] = at(load_date + timedelta(days=chance.choice([-9, -1, 0, 1, 20])), 12)
    elif what == "recorded twice":
        # In one instant; delivered together, or again when it is no repeat any more.
        again = load_date + timedelta(days=chance.choice([0, 0, LOOK_BACK_DAYS + 2]))
        end = _commitment(chance, load_date)
        rows.append({**told, "load_date": again, "contract_end_date": end})
    elif what == "late":
        told["updated_at"] = row["updated_at"] - timedelta(hours=chance.choice([1, 30]))
    for other in rows:
        other["event_date"] = local_day(other["start_at"])
        if other["load_date"] <= world.last:
            world.rows["subscription_offering"].append(other)


def _recorded(chance: random.Random, day: date) -> datetime:
    return at(day, 21) + timedelta(seconds=chance.randrange(7200))


def _quiet_days(world: World, chance: random.Random) -> None:
    """Let nothing land on the last days of some months, nor on the last ones of the world."""
    ends = [day for day in _month_ends(world.first, world.last) if chance.random() < 0.4]
    quiet = world.last - timedelta(days=chance.choice([0, 0, 1, 4]))
    for table, rows in world.rows.items():
        for row in rows:
            if row["load_date"] in ends:
                row["load_date"] += ONE_DAY
        world.rows[table] = [row for row in rows if row["load_date"] <= quiet]


def _month_ends(first: date, last: date) -> Iterable[date]:
    day = first
    while day < last:
        if (day + ONE_DAY).day == 1:
            yield day
        day += ONE_DAY


def at(day: date, hour: float = 12) -> datetime:
    """Return an hour of the operator's day in UTC."""
    return datetime.combine(day, time()) + timedelta(hours=hour) - AHEAD_OF_UTC


def _typed(name: str, value: Any) -> Any:
    return Decimal(str(value)) if name.endswith("amt") and value is not None else value


def _word(chance: random.Random) -> str:
    return "".join(chance.choices(string.ascii_lowercase + string.digits, k=7))


def _catalogue(world: World, chance: random.Random) -> None:
    day = world.first
    for code, prefix in OPERATORS.items():
        world.put(
            "operator", day, day, operator_code=code, name=code, type="MNO", own_flag=code == "own"
        )
        world.put(
            "number_range", day, day, prefix=prefix, operator_code=code, valid_from=date(2020, 1, 1)
        )
    entries = [(name, fee, None) for name, fee in PLANS.items()]
    entries += [(name, fee, partner) for name, (fee, partner) in ADD_ONS.items()]
    for name, fee, partner in entries:
        family = "mobile" if name in PLANS else "vas"
        told = {"offering_id": name, "name": name, "family": family, "partner_id": partner}
        since = {"valid_from": date(2020, 1, 1)}
        world.put("product_offering", day, day, **told, **since, monthly_fee_amt=fee)
        if name in ADD_ONS and chance.random() < 0.5:
            later = day + timedelta(days=chance.randint(40, 160))
            world.put("product_offering", later, later, **told, **since, monthly_fee_amt=fee + 3)


def _key_lists(world: World, chance: random.Random) -> None:
    """List all keys on three days; some lack in the second, and may be there again."""
    names = sorted({row["subscription_id"] for row in world.rows["subscription"]})
    ended = {
        row["subscription_id"]
        for row in world.rows["subscription"]
        if row["status_code"] == "terminated"
    }
    open_ones = [name for name in names if name not in ended]
    lacking = set(chance.sample(open_ones, 1 + len(open_ones) // 10))
    come_back = {name for name in lacking if chance.random() < 0.5}
    known_on = {
        name: min(
            row["load_date"] for row in world.rows["subscription"] if row["subscription_id"] == name
        )
        for name in names
    }
    begin = world.first + timedelta(days=chance.randint(60, 150))
    for number in range(3):
        day = begin + timedelta(days=14 * number)
        absent = (set(), lacking, lacking - come_back)[number]
        for name in names:
            if known_on[name] < day and name not in absent:
                key = {"table_name": "subscription", "key_text": name}
                world.put("source_key", day, day, **key, listed_at=at(day, 23))


class _Line:
    """One subscription: a plan of its versions first, then its days."""

    def __init__(self, world: World, chance: random.Random, brands: list[str]) -> None:
        self.world, self.chance = world, chance
        self.length = (world.last - world.first).days
        self.name, self.account = f"{_word(chance)}-line", f"{_word(chance)}-account"
        self.brands = brands
        self.payment_type = chance.choices(["prepaid", "postpaid", "hybrid"], [6, 3, 1])[0]
        self.prepaid_until, self.plans = world.last, sorted(PLANS)

    def live(self) -> None:
        """Put everything that happens to the line."""
        chance, world = self.chance, self.world
        before = chance.random() < 0.6
        self.begun = world.first + timedelta(
            days=-chance.randint(1, 700) if before else chance.randint(0, self.length - 20)
        )
        self.known = max(
            world.first, self.begun + timedelta(days=chance.choice([0, 0, 0, 1, 3, 11]))
        )
        if chance.random() < 0.04:
            self.known += timedelta(days=110)
        self.state: Row = {
            "subscription_id": self.name,
            "customer_id": f"{_word(chance)}-customer",
            "account_id": self.account,
            "brand_code": chance.choice([*self.brands, self.brands[0], None]),
            "payment_type": self.payment_type,
            "offering_id": "plan-39",
            "dealer_id": chance.choice(["dealer-a", None]),
            "activation_channel": chance.choice(["shop", "app", None]),
            "province_code": chance.choice(["BJ", "SH"]),
            "activated_at": at(self.begun, chance.choice([0, 7.5, 12, 23.9])),
            "status_code": "active",
            "status_at": at(self.begun, 12),
        }
        self.ended = world.last + ONE_DAY
        self._versions()
        if self.state["status_code"] != "created":
            self._holdings()
            self._days()
            self._bills()
            self._suspensions()
            self._complaints()

    def _some_day(self, begin: date | None = None) -> date:
        begin = begin or self.known + ONE_DAY
        span = max(1, (self.world.last - begin).days)
        return begin + timedelta(days=self.chance.randrange(span))

    def _tell(
        self, load_date: date, hour: float = 18, recorded: datetime | None = None, **new: Any
    ) -> None:
        self.state.update(new)
        told = {**self.state, "updated_at": recorded or at(load_date, hour)}
        self.world.put("subscription", load_date, load_date, **told)

    def _versions(self) -> None:
        chance = self.chance
        if chance.random() < 0.06:
            return self._never_activated()
        self._tell(self.known)
        moves = sorted(self._some_day() for _ in range(chance.choice([0, 0, 1, 2])))
        changes: list[tuple[date, str]] = [(day, "move") for day in moves]
        if chance.random() < 0.25:
            changes.append((self._some_day(), "payment"))
        if chance.random() < 0.2:
            changes.append((self._some_day(), "activation"))
        if chance.random() < 0.15:
            changes.append((self._some_day(), "stale"))
        if chance.random() < 0.45:
            changes.append((self._some_day(), "end"))
        spent: set[date] = {self.known}
        for day, what in sorted(changes):
            while day in spent:
                day += ONE_DAY
            spent.add(day)
            if what == "end":
                self._end(day)
                break
            getattr(self, f"_{what}")(day)
        return None

    def _never_activated(self) -> None:
        self._tell(self.known, status_code="created")
        if self.chance.random() < 0.5:
            self._tell(self._some_day(), status_code="pending_active")
        self.state["status_code"] = "created"

    def _move(self, day: date) -> None:
        code, brand = self.chance.choice(["BJ", "SH", "GD", None]), self.chance.choice(self.brands)
        if self.chance.random() < 0.3:
            # Two versions of one day: the last one counts.
            self._tell(day, 9, province_code="XX")
        self._tell(day, 15, province_code=code, brand_code=brand)

    def _payment(self, day: date) -> None:
        other = "postpaid" if self.state["payment_type"] == "prepaid" else "prepaid"
        self._tell(day, payment_type=other)

    def _activation(self, day: date) -> None:
        by_days = timedelta(days=self.chance.choice([-40, -13, -1, 1, 13, 40]))
        begun = min(self.begun + by_days, day)
        self._tell(day, activated_at=at(begun, 12))

    def _stale(self, day: date) -> None:
        # Recorded before the version that is known, delivered later: it changes nothing.
        kept = dict(self.state)
        stale = {"brand_code": "stale", "status_code": "terminated"}
        self._tell(day, recorded=at(self.known, 1), **stale)
        self.state = kept

    def _end(self, day: date) -> None:
        """Terminate on a load date, dated before, on or after it; perhaps restated or taken back."""
        chance = self.chance
        ends = day + timedelta(days=chance.choice([-25, -6, -2, -1, 0, 0, 0, 1, 12, 40]))
        self.ended = max(ends, day) if chance.random() < 0.8 else self.world.last
        reason = chance.choice(REASONS)
        dated = {"terminated_at": at(ends, chance.choice([1, 12, 23.5]))}
        if chance.random() < 0.2:
            dated = {"terminated_at": None}
        self._tell(
            day,
            status_code="terminated",
            status_at=at(ends, 12),
            termination_reason_code=reason,
            **dated,
        )
        if chance.random() < 0.35:
            self._port(ends)
        if chance.random() < 0.3:
            day += timedelta(days=chance.randint(1, 20))
            ends += timedelta(days=chance.choice([-35, -3, 0, 2, 31]))
            dated = {"terminated_at": at(ends, 12)}
            self._tell(day, status_at=at(ends, 12), termination_reason_code=reason, **dated)
        if chance.random() < 0.4:
            day += timedelta(days=chance.choice([1, 4, 15, 60, 100]))
            back = chance.choice([day, day - ONE_DAY, ends, ends - ONE_DAY, ends + ONE_DAY])
            open_again = {"terminated_at": None, "termination_reason_code": None}
            self._tell(day, status_code="active", status_at=at(back, 12), **open_again)
            self.ended = self.world.last + ONE_DAY
            if chance.random() < 0.3:
                day += timedelta(days=chance.choice([1, 2, 30]))
                gone = {"status_code": "terminated", "status_at": at(day, 8)}
                self._tell(day, **gone, terminated_at=at(day, 8), termination_reason_code="price")
                self.ended = day

    def _port(self, ends: date) -> None:
        shifts = (-40, -31, -30, -20, -3, 0, 7, 8, 15)
        for shift in self.chance.sample(shifts, self.chance.choice([1, 1, 2])):
            done = ends + timedelta(days=shift)
            port = {"port_id": _word(self.chance), "subscription_id": self.name, "direction": "out"}
            port |= {"donor_operator": "own", "requested_at": at(done - ONE_DAY)}
            port["recipient_operator"] = self.chance.choice(["rival", "third"])
            self.world.put(
                "np_port",
                done - ONE_DAY,
                done - ONE_DAY,
                **port,
                status="requested",
                completed_at=None,
            )
            status = self.chance.choice(["completed", "completed", "cancelled"])
            completed = at(done) if status == "completed" else None
            self.world.put(
                "np_port", done - ONE_DAY, done, **port, status=status, completed_at=completed
            )

    def _days(self) -> None:
        """Use the network but for some silences; a part of it is told late."""
        chance, world = self.chance, self.world
        silent: set[date] = set()
        for _ in range(chance.choice([0, 0, 1, 1, 2])):
            begin = self._some_day(max(self.begun, world.first))
            length = chance.choice(SILENCES)
            silent |= {begin + timedelta(days=n) for n in range(length)}
            if chance.random() < 0.25:
                # It was no silence, which becomes known when it had been taken for one, or before.
                heard = begin + timedelta(days=chance.randrange(length))
                told = max(heard, begin + timedelta(days=chance.randint(85, 130)))
                self._event("out", heard, told)
        density = chance.choice([0.02, 0.1, 0.4, 0.9])
        day = max(self.begun, world.first - timedelta(days=10))
        while day <= min(world.last, self.ended):
            if (day not in silent and chance.random() < density) or chance.random() < 0.004:
                self._use(day)
            day += ONE_DAY

    def _use(self, day: date) -> None:
        chance = self.chance
        lag = chance.choices([0, 1, 3, 20, 95], [80, 10, 5, 4, 1])[0]
        loaded = day + timedelta(days=lag)
        kinds = ["out", "out", "in", "busy", "sms", "service", "sms_in", "data", "empty", "free"]
        for kind in chance.sample(kinds, chance.choice([1, 1, 2])):
            self._event(kind, day, loaded)
        if self.chance.random() < 0.25:
            self._recharge(day, loaded)

    def _event(self, kind: str, day: date, loaded: date) -> None:
        chance = self.chance
        when = at(day, chance.choice([0, 3, 12, 23.9]))
        own = {"usage_id": _word(chance) + _word(chance), "subscription_id": self.name}
        charge = chance.choice([None, 0, 1])
        if kind in ("out", "in", "busy"):
            talked = 0 if kind == "busy" else chance.choice([30, 60, 333])
            self.world.put(
                "cdr_voice",
                day,
                loaded,
                **own,
                start_at=when,
                duration_s=talked,
                roam_type="home",
                call_type="local",
                direction="in" if kind == "in" else "out",
                charge_amt=charge,
                status="busy" if kind == "busy" else chance.choice(["completed", "dropped"]),
                other_number_hash="friend",
                other_prefix=chance.choice(["138", "186"]),
            )
        elif kind in ("sms", "service", "sms_in"):
            self.world.put(
                "cdr_sms",
                day,
                loaded,
                **own,
                sent_at=when,
                charge_amt=charge,
                direction="out" if kind == "sms" else "in",
                other_number_hash="friend",
                sms_class="service" if kind == "service" else "p2p",
                other_prefix="138",
            )
        else:
            size = 0 if kind == "empty" else chance.choice([1, 1_048_576, 50_000_000])
            self.world.put(
                "cdr_data",
                day,
                loaded,
                **own,
                session_start_at=when,
                bytes_up=size // 2,
                bytes_down=size - size // 2,
                roam_type="home",
                charge_amt=charge,
            )
        if chance.random() < 0.02:
            # Delivered again: within the look-back it counts once.
            again = next(row for row in reversed(self._rows_of(kind)) if row)
            if again["usage_id"] == own["usage_id"]:
                table = self._table_of(kind)
                later = loaded + timedelta(days=chance.choice([1, 7]))
                self.world.put(
                    table, day, later, **{k: v for k, v in again.items() if k[-5:] != "_date"}
                )

    def _table_of(self, kind: str) -> str:
        tables = {"sms": "cdr_sms", "service": "cdr_sms", "sms_in": "cdr_sms"}
        return tables.get(kind, "cdr_voice" if kind in ("out", "in", "busy") else "cdr_data")

    def _rows_of(self, kind: str) -> list[Row]:
        return self.world.rows.get(self._table_of(kind)) or [{"usage_id": None}]

    def _recharge(self, day: date, loaded: date) -> None:
        paid = self.chance.choice([10, 20, 30, 50, "19.99", "0.01"])
        self.world.put(
            "recharge",
            day,
            loaded,
            recharge_id=_word(self.chance) + _word(self.chance),
            subscription_id=self.name,
            recharged_at=at(day, 12),
            face_amt=paid,
            paid_amt=paid,
            reversed_flag=self.chance.random() < 0.1,
        )

    def _holdings(self) -> None:
        chance = self.chance
        begin = max(self.begun, self.world.first)
        plan, since = "plan-39", self.begun
        self._hold(plan, at(since, 12), None, "main", self.known)
        for _ in range(chance.choice([0, 0, 1, 2])):
            day = self._some_day(begin)
            # Plans change within a day, and the last change is told first or last.
            for number, other in enumerate(chance.sample(self.plans, chance.choice([1, 2, 3]))):
                if other != plan and day > since:
                    self._hold(other, at(day, 9 + number), None, "main", day, 20 + number / 10)
                    plan = other
            since = day
        for name in chance.sample(sorted(ADD_ONS), chance.choice([0, 1, 2])):
            day = self._some_day(begin - timedelta(days=30))
            until = (
                day + timedelta(days=chance.choice([0, 10, 60])) if chance.random() < 0.5 else None
            )
            self._hold(name, at(day, 10), None, "add_on", day)
            if until:
                self._hold(name, at(day, 10), at(until, 11), "add_on", max(until, day + ONE_DAY))

    def _hold(
        self,
        offering: str,
        start: datetime,
        end: datetime | None,
        role: str,
        load_date: date,
        hour: float = 20,
    ) -> None:
        day = max(load_date, self.world.first)
        self.world.put(
            "subscription_offering",
            local_day(start) or day,
            day,
            subscription_id=self.name,
            offering_id=offering,
            role=role,
            start_at=start,
            end_at=end,
            updated_at=at(day, hour),
        )

    def _bills(self) -> None:
        """Bill each month; a prepaid line some months, for what its recharges have paid."""
        chance, world = self.chance, self.world
        bill_day = world.first.replace(day=chance.choice([1, 5, 15]))
        start = None
        while bill_day <= min(world.last, self.ended + timedelta(days=40)):
            billed = self.payment_type != "prepaid" or chance.random() < 0.4
            if billed and bill_day > self.begun and bill_day >= world.first:
                self._bill(bill_day, start or bill_day - timedelta(days=30))
            start = bill_day
            bill_day = (bill_day.replace(day=1) + timedelta(days=32)).replace(day=bill_day.day)

    def _bill(self, day: date, start: date) -> None:
        chance = self.chance
        bill = {"bill_id": _word(chance), "account_id": self.account, "period_start": start}
        bill |= {"period_end": day, "bill_date": day, "due_date": day + timedelta(days=20)}
        bill |= {"amount_due_amt": 53}
        loaded = day + timedelta(days=chance.choice([0, 0, 2]))
        if chance.random() < 0.9:
            self.world.put("bill", day, loaded, **bill, remaining_amt=53, state="issued")
            if chance.random() < 0.8:
                paid = loaded + timedelta(days=chance.choice([5, 19, 25]))
                self.world.put("bill", day, paid, **bill, remaining_amt=0, state="settled")
                self.world.put(
                    "payment",
                    paid,
                    paid,
                    payment_id=_word(chance),
                    account_id=self.account,
                    paid_at=at(paid),
                    amt=53,
                )
        lines = [("recurring", 39, False), ("usage", chance.choice([0, "3.33"]), False)]
        lines += [("tax", 3, False), ("discount", -5, False), ("one_off", 7, True)]
        lines += [("adjustment", -60, False)] if chance.random() < 0.1 else []
        for number, (what, amount, third) in enumerate(lines, 1):
            self.world.put(
                "bill_line",
                day,
                loaded,
                bill_id=bill["bill_id"],
                line_no=number,
                charge_class=what,
                subscription_id=self.name if chance.random() < 0.95 else None,
                third_party_flag=third,
                partner_id="partner-a" if third else None,
                tax_excl_amt=amount,
                tax_amt=0,
                billed_date=day,
            )

    def _suspensions(self) -> None:
        """Suspend and restore, on one day among others."""
        chance = self.chance
        for _ in range(chance.choice([0, 0, 1, 2])):
            day = self._some_day()
            length = chance.choice([0, 0, 1, 9])
            self._status(day, 9, "active", "suspended")
            self._status(day + timedelta(days=length), 14, "suspended", "active")

    def _status(self, day: date, hour: float, before: str, after: str) -> None:
        change = {"event_id": _word(self.chance), "subscription_id": self.name}
        change |= {"from_status": before, "to_status": after, "event_at": at(day, hour)}
        self.world.put(
            "subscription_status_event",
            day,
            day + timedelta(days=self.chance.choice([0, 0, 2])),
            **change,
        )

    def _complaints(self) -> None:
        for _ in range(self.chance.choice([0, 0, 1, 3])):
            day = self._some_day()
            ticket = {"ticket_id": _word(self.chance), "subscription_id": self.name}
            ticket |= {"type_code": "billing", "created_at": at(day)}
            self.world.put("trouble_ticket", day, day, **ticket, status="open", resolved_at=None)
            done = day + timedelta(days=self.chance.choice([1, 8, 40]))
            self.world.put(
                "trouble_ticket", day, done, **ticket, status="resolved", resolved_at=at(done)
            )


def columns_only(rows: Rows, wanted: dict[str, Iterable[str]]) -> Rows:
    """Return rows with the columns that a contract has."""
    return {
        table: [
            {
                name: value
                for name, value in row.items()
                if name in {*wanted[table], "load_date", "event_date"}
            }
            for row in table_rows
        ]
        for table, table_rows in rows.items()
    }
