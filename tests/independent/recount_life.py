"""Signs of life, ends and losses of subscriptions: when each is in service."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise

from independent.landed import (
    FOREVER,
    LIST_DAYS,
    ONE_DAY,
    Parameters,
    Row,
    Rows,
    by,
    facts,
    local_day,
    newest_versions,
    seed_rows,
    version_on,
)

NOT_ACTIVATED = ("created", "pending_active")
PORT_BEFORE, PORT_AFTER = 30, 7


@dataclass
class Sign:
    """A day of life, known from a load date on; of a corrected activation only until another."""

    day: date
    known_from: date
    known_to: date = FOREVER


@dataclass
class End:
    """A statement that the subscription ends on a day, and what became of the statement."""

    known_on: date
    day: date
    reason: str | None
    until: date = FOREVER
    restored_on: date | None = None


@dataclass
class Loss:
    """One row of `fct_churn_event`."""

    subscription_id: str
    definition_code: str
    event_date: date
    confirmed_date: date
    kind: str = "inactivity"
    outcome: str = "standing"
    returned_date: date | None = None
    corrected_date: date | None = None
    revoked_date: date | None = None
    reason_code: str | None = None
    destination_operator: str | None = None


@dataclass
class Life:
    """A subscription with everything that decides when it is in service."""

    subscription_id: str
    versions: list[Row]
    signs: list[Sign] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    # By event and confirmation of a termination: the day on which it had come back from a loss before.
    begun: dict[tuple[date, date], date] = field(default_factory=dict)

    def activated_on(self, known_on: date = FOREVER) -> date | None:
        """Return the day of activation as known on a day."""
        told = [row for row in self.versions if row["load_date"] <= known_on]
        if not told or told[-1]["status_code"] in NOT_ACTIVATED:
            return None
        return local_day(told[-1]["activated_at"])

    def in_service(self, day: date) -> bool:
        """Say whether it is in service at the end of a day, as known now."""
        activated = self.activated_on()
        return (
            activated is not None
            and activated <= day
            and not any(
                loss.event_date <= day and (loss.returned_date or FOREVER) > day
                for loss in self.losses
                if loss.outcome != "corrected"
            )
        )

    def terminated(self, day: date) -> bool:
        """Say whether an end had come by a day, as known on it."""
        return any(end.known_on <= day < end.until and end.day <= day for end in self.ends)


def activity(rows: Rows) -> dict[str, dict[date, set[date]]]:
    """Return, by subscription, days with an event that brings income and their load dates."""
    found: dict[str, dict[date, set[date]]] = defaultdict(lambda: defaultdict(set))
    for row in income_events(rows):
        found[row["subscription_id"]][row["event_date"]].add(row["load_date"])
    return found


def income_events(rows: Rows) -> Iterable[Row]:
    """Yield the events that bring income."""
    yield from (row for row in facts(rows, "cdr_voice") if connected(row))
    for row in facts(rows, "cdr_sms"):
        if row["direction"] == "out" and row["sms_class"] == "p2p":
            yield row
    yield from (row for row in facts(rows, "cdr_data") if moved(row) > 0)
    yield from (row for row in facts(rows, "recharge") if not row["reversed_flag"])


def connected(call: Row) -> bool:
    """Say whether a call reached the other party."""
    return call["status"] in ("completed", "dropped")


def moved(session: Row) -> int:
    """Return the bytes of a data session."""
    return int(session["bytes_up"]) + int(session["bytes_down"])


def lives(rows: Rows, known_until: date, definition: Parameters | None = None) -> dict[str, Life]:
    """Return the subscriptions that the operator names, with their losses as known on a day."""
    definition = definition or Parameters.of_seed("param_churn_definition")
    active = activity(rows)
    loads = [day for of_line in active.values() for known in of_line.values() for day in known]
    ports = by(rows.get("np_port", ()), "port_id").values()
    completed = [newest_versions(versions)[-1] for versions in ports]
    found = {}
    for name, told in sorted(by(rows.get("subscription", ()), "subscription_id").items()):
        life = Life(name, newest_versions(told))
        life.signs = list(_signs(life, active.get(name, {}), min(loads, default=None)))
        life.ends = _ends(life, rows)
        silences = [
            loss
            for payment_type in definition.scopes("inactivity_days")
            for loss in _silences(life, definition, payment_type, max(loads, default=date.min))
        ]
        life.losses = silences + _terminations(life, silences, known_until)
        life.losses.sort(key=lambda loss: (loss.confirmed_date, loss.event_date))
        own_ports = [row for row in completed if row.get("subscription_id") == name]
        for loss in life.losses:
            _name_kind(life, loss, own_ports)
        found[name] = life
    return found


def _signs(life: Life, active: dict[date, set[date]], first_load: date | None) -> Iterable[Sign]:
    for day, loaded in active.items():
        yield Sign(day, min(loaded))
    spans: list[Sign] = []
    for version in life.versions:
        activated = life.activated_on(version["load_date"])
        day = activated and max(activated, first_load or activated)
        if spans and spans[-1].known_to == FOREVER and day != spans[-1].day:
            spans[-1].known_to = version["load_date"]
        if day and (not spans or spans[-1].known_to != FOREVER):
            spans.append(Sign(day, version["load_date"]))
    yield from spans
    for before, version in pairwise(life.versions):
        ended = before["status_code"] == "terminated" != version["status_code"]
        if ended or before["payment_type"] != version["payment_type"]:
            yield Sign(version["load_date"], version["load_date"])


def _ends(life: Life, rows: Rows) -> list[End]:
    ends: list[End] = []

    def close(load_date: date, restored_on: date | None) -> None:
        if ends and ends[-1].until == FOREVER:
            ends[-1].until, ends[-1].restored_on = load_date, restored_on

    changes = [(row["load_date"], "version", row) for row in life.versions]
    changes += [(day, what, {}) for day, what in _listed(life, rows)]
    for load_date, what, row in sorted(changes, key=lambda change: change[:2]):
        runs = bool(ends) and ends[-1].until == FOREVER
        if what == "gone":
            if not runs:
                ends.append(End(load_date, load_date, "deleted"))
        elif what == "listed":
            if runs and ends[-1].reason == "deleted":
                # The version that holds again tells since when.
                status_at = version_on(life.versions, load_date).get("status_at")
                close(load_date, local_day(status_at) or load_date)
                life.signs.append(Sign(load_date, load_date))
        elif row["status_code"] != "terminated":
            if runs:
                close(load_date, local_day(row.get("status_at")) or load_date)
                life.signs.append(Sign(load_date, load_date))
        else:
            day = local_day(row.get("terminated_at")) or local_day(row.get("status_at"))
            day = max(day or load_date, local_day(row["activated_at"]) or load_date)
            reason = row.get("termination_reason_code")
            if not runs or ends[-1].day != day:
                close(load_date, None)
                ends.append(End(load_date, day, reason))
            # The newest version of an end says why, also where it was told with another date.
            ends[-1].reason = reason
            for newer, told in pairwise(ends[::-1]):
                if told.restored_on or told.until != newer.known_on:
                    break
                told.reason = reason
    return ends


def _listed(life: Life, rows: Rows) -> Iterable[tuple[date, str]]:
    lists = by(
        (row for row in rows.get("source_key", ()) if row["table_name"] == "subscription"),
        "load_date",
    )
    before: date | None = None
    for load_date, keys in sorted(lists.items()):
        if any(row["key_text"] == life.subscription_id for row in keys):
            yield load_date, "listed"
        elif before and (load_date - before).days <= LIST_DAYS:
            told = [row for row in life.versions if row["updated_at"] < keys[0]["listed_at"]]
            in_list = any(row["key_text"] == life.subscription_id for row in lists[before])
            if in_list or any(row["load_date"] > before for row in told):
                yield load_date, "gone"
        before = load_date


def _silences(
    life: Life, definition: Parameters, payment_type: str, delivered: date
) -> Iterable[Loss]:
    for day in sorted({sign.day for sign in life.signs}):
        length = definition.get("inactivity_days", payment_type, day)
        told = [sign for sign in life.signs if sign.day == day]
        counted = length and _counts_from(life, day, min(sign.known_from for sign in told))
        if not counted:
            continue
        silent_until = day + int(length) * ONE_DAY
        confirmed = max(silent_until, counted)
        still = max((sign.known_to for sign in told), default=confirmed)
        within = [sign for sign in life.signs if day < sign.day <= silent_until]
        if (
            confirmed > delivered
            or confirmed >= still
            or any(sign.known_from <= confirmed < sign.known_to for sign in within)
            or version_on(life.versions, confirmed)["payment_type"] != payment_type
            or life.terminated(confirmed)
            or life.terminated(silent_until)
        ):
            continue
        loss = Loss(
            life.subscription_id, f"INACTIVITY_{length}", day + ONE_DAY, confirmed_date=confirmed
        )
        corrections = [sign.known_from for sign in within if sign.known_from > confirmed]
        corrections += [still] if still < FOREVER else []
        corrections += [
            row["load_date"]
            for row in life.versions
            if row["load_date"] > confirmed
            and (life.activated_on(row["load_date"]) or FOREVER) > day
        ]
        later = [sign for sign in life.signs if sign.day > silent_until]
        revocations = corrections + [max(confirmed, sign.known_from) for sign in later]
        loss.revoked_date = min(revocations, default=None)
        if corrections:
            loss.outcome, loss.corrected_date = "corrected", min(corrections)
        elif later:
            loss.outcome = "won_back"
            loss.returned_date = min(sign.day for sign in later if sign.known_to == FOREVER)
        yield loss


def _counts_from(life: Life, day: date, known_from: date) -> date | None:
    """Return the day from which a sign was known to be one of an activated subscription."""
    for load_date in sorted({known_from, *(row["load_date"] for row in life.versions)}):
        activated = life.activated_on(load_date)
        if load_date >= known_from and activated and activated <= day:
            return load_date
    return None


def _terminations(life: Life, silences: Sequence[Loss], known_until: date) -> list[Loss]:
    losses: list[Loss] = []
    for end in life.ends:
        confirmed = max(end.known_on, end.day)
        while standing := [
            loss
            for loss in silences
            if loss.confirmed_date <= confirmed < (loss.revoked_date or FOREVER)
        ]:
            confirmed = max(loss.revoked_date or FOREVER for loss in standing)
        if confirmed > known_until or confirmed >= end.until or not life.activated_on(confirmed):
            continue
        returns = [
            loss.returned_date
            for loss in [*silences, *losses]
            if loss.returned_date and loss.confirmed_date <= confirmed
        ]
        loss = Loss(
            life.subscription_id, "TERMINATION", max(end.day, *returns, date.min), confirmed
        )
        loss.reason_code = end.reason
        restored = [
            (before.until, before.restored_on)
            for before in life.ends
            if before.restored_on and before.until <= end.known_on
        ]
        came_back = [day for _, day in sorted(restored)[-1:]]
        life.begun[loss.event_date, loss.confirmed_date] = max([*came_back, *returns, date.min])
        if end.until < FOREVER:
            loss.revoked_date = end.until
            if end.restored_on and end.restored_on > loss.event_date:
                loss.outcome, loss.returned_date = "won_back", end.restored_on
            else:
                loss.outcome, loss.corrected_date = "corrected", end.until
        losses.append(loss)
    return losses


def _name_kind(life: Life, loss: Loss, ports: Iterable[Row]) -> None:
    if loss.definition_code != "TERMINATION":
        return
    reasons = {row["reason_code"]: row["kind"] for row in seed_rows("churn_reason")}
    loss.kind = reasons.get(loss.reason_code or "", "voluntary")
    # As known now: what was corrected was no loss, and nothing came back from it.
    begun = max(
        (
            other.returned_date
            for other in life.losses
            if other.returned_date and other.event_date < loss.event_date
        ),
        default=date.min,
    )
    near = []
    for port in ports:
        done = local_day(port.get("completed_at"))
        if (
            port["direction"] == "out"
            and port["status"] == "completed"
            and done
            and -PORT_BEFORE <= (done - loss.event_date).days <= PORT_AFTER
            and begun <= done < (loss.returned_date or FOREVER)
        ):
            # Of two that are as near the earlier day decides, then the order of recording.
            rank = (abs(done - loss.event_date), done, -port["updated_at"].timestamp())
            near.append((rank, port.get("recipient_operator")))
    if near:
        loss.kind = "port_out"
        nearest = min(rank for rank, _ in near)
        named = {operator for rank, operator in near if rank == nearest}
        loss.destination_operator = named.pop() if len(named) == 1 else None
