"""What makes a home one home: its identity, the keys that it was begun with, and the store that is its own.

A home is a folder, and folders are copied, moved and restored. Its identity says which one it is; the store
keeps the same identity and the fingerprints of the keys, so that neither is ever used with another's.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import shlex
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

import psycopg
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from keepline.errors import UsageError

if TYPE_CHECKING:
    from keepline.settings import Settings

FILE = "identity.json"
# Raised when what is made with a key changes, so that what was made before can still be told apart.
KEY_VERSION = 1
KEYS = ("pseudonym_key", "vault_key")
FINGERPRINT_DIGITS = 16
# Here and not in ops.sql: whoever takes the lease for the first time writes it, before `migrate` does.
TABLE = """
create table if not exists ops.home (
    one boolean primary key default true check (one),
    home_id text,
    pseudonym_key text not null,
    vault_key text not null,
    key_version integer not null,
    since_at timestamptz not null default now()
);
alter table ops.home add column if not exists operator text, add column if not exists timezone text
"""
# Settings without which rows mean something else, each with what another value would do.
MEANINGS = {
    "operator": "the rows of two operators would be mixed",
    "timezone": (
        "business days would be cut at other hours, and rows between two days would be lost or counted "
        "twice"
    ),
}

# The keys stay: what the store holds was made under them.
TAKE_OVER: LiteralString = "update ops.home set home_id = null"

Connection = psycopg.Connection[TupleRow]


class AnotherHomeError(UsageError):
    """What was found belongs to another home."""


@dataclass(frozen=True)
class Identity:
    """Which home this is.

    Attributes:
        id: made with the home, never changed.
        path: where the home was when it was used last.
        server: folder of its embedded server: `postgres` below the home, or a whole path; empty when there
            never was one.
        stores: operators whose store was begun, so that an empty one is not taken for it.
    """

    id: str
    path: str
    server: str = ""
    stores: tuple[str, ...] = ()


def identity(home: Path) -> Identity | None:
    """Return which home this is, or None when it has not begun.

    Raises:
        UsageError: the file that says so cannot be read.
    """
    file = home / FILE
    try:
        said = json.loads(file.read_bytes())
        # A home of an older version does not say whose stores were begun.
        stores = tuple(str(name) for name in said.get("stores", ()))
        return Identity(str(said["id"]), str(said["path"]), str(said["server"]), stores)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            f"{file} is damaged: put it back from the home's backup, as the store knows the home by it"
        ) from None


def identify(home: Path) -> Identity:
    """Return which home this is; a new one gets its identity, and is closed to others."""
    known = identity(home)
    if known is not None:
        return known
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    _close(home)
    draft = _draft(home, Identity(uuid.uuid4().hex, str(home)))
    # Whole and never over an existing one: two first runs at once agree on one.
    try:
        os.link(draft, home / FILE)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    made = identity(home)
    assert made is not None  # noqa: S101
    return made


def change(
    home: Path,
    *,
    path: str | None = None,
    server: str | None = None,
    stores: tuple[str, ...] | None = None,
) -> Identity:
    """Write down what has changed of a home: its path, its server, its stores."""
    known = identify(home)
    changed = Identity(
        known.id,
        known.path if path is None else path,
        known.server if server is None else server,
        known.stores if stores is None else stores,
    )
    if changed != known:
        _draft(home, changed).replace(home / FILE)
    return changed


def confirm_original(home: Path) -> None:
    """Refuse a copy of a home that is still there; one that was moved is written down where it is now.

    Raises:
        AnotherHomeError: it is a copy, and what lies outside of the home belongs to the original.
    """
    known = identity(home)
    if known is None or known.path == str(home):
        return
    before = Path(known.path) / FILE
    try:
        if before.samefile(home / FILE):
            return  # two ways to one folder
        is_copy = json.loads(before.read_bytes())["id"] == known.id
    except (OSError, ValueError, KeyError, TypeError):
        is_copy = False
    if is_copy:
        raise AnotherHomeError(
            f"{home} is a copy of {known.path}, which is still there, and both would work on one store. Set "
            f"KEEPLINE_HOME to {known.path}; to throw the copy away: `keepline clean --yes`"
        )
    change(home, path=str(home))


def unwritable(home: Path, error: OSError) -> UsageError:
    """Return what to tell a person whose home cannot be written."""
    return UsageError(
        f"{home} cannot be written ({error.strerror}): set KEEPLINE_HOME to a folder that can, or make this "
        "one writable"
    )


def has_server(home: Path) -> bool:
    """Tell whether a home ever had a server of its own."""
    known = identity(home)
    return bool(known and known.server) or (home / "postgres" / "data").exists()


def is_begun(home: Path) -> bool:
    """Tell whether anything was made under the keys of a home: rows that landed, or a server's store."""
    return has_server(home) or any(True for _ in home.glob("*/landing/*/*=*"))


def openings(home: Path) -> list[str]:
    """Return the commands that shut out whoever else may look into a home; none in a private one."""
    known = identity(home)
    allowed = 0o711 if os.geteuid() == 0 else 0o700
    commands = [f"chmod {allowed:o} {shlex.quote(str(home))}"] if _others(home) & ~allowed else []
    looked_at = sorted(home.iterdir()) if _others(home) else []
    if known is not None and Path(known.server).is_absolute():
        looked_at.append(Path(known.server))
    opened = [str(path) for path in looked_at if not path.is_symlink() and _others(path)]
    if opened:
        commands.append(f"chmod go-rwx {shlex.join(opened)}")
    return commands


def _others(path: Path) -> int:
    """Return what others may do with a file or folder, as bits of its mode."""
    return path.stat().st_mode & 0o077 if path.exists() else 0


# -- keys -----------------------------------------------------------------------------------------


def fingerprint(name: str, key: str) -> str:
    """Return what tells a key from another one and says nothing else about it; empty without a key.

    Args:
        name: one of `KEYS`: the same digits for two purposes have two fingerprints.
        key: 64 hex digits.
    """
    if not key:
        return ""
    text = f"keepline {name} {KEY_VERSION}".encode()
    return hmac.digest(bytes.fromhex(key), text, hashlib.sha256).hex()[:FINGERPRINT_DIGITS]


def fingerprints(settings: Settings) -> dict[str, str]:
    """Return the fingerprint of each key of these settings."""
    return {name: fingerprint(name, getattr(settings, name).get_secret_value()) for name in KEYS}


# -- the store ------------------------------------------------------------------------------------


def confirm(connection: Connection, settings: Settings) -> None:
    """Go on only with the store that belongs to this home, and with the keys that it was filled under.

    Raises:
        UsageError: it is another home's, its keys are others, or it is empty where this home's is not.
    """
    is_known, is_used = connection.execute(
        "select to_regclass('ops.home') is not null, to_regclass('ops.stage_run') is not null"
    ).fetchone() or (False, False)
    row = None
    if is_known:
        # Whole rows, as a store of an older version lacks columns.
        row = connection.execute("select to_jsonb(h) from ops.home as h").fetchone()
    if row is None:
        known = identity(settings.home)
        begun = ""
        if any(settings.landing_dir.glob("*/*=*")):
            begun = f"rows have landed in {settings.landing_dir}"
        elif known is not None and settings.operator in known.stores:
            begun = f"{settings.home} has had one for {settings.operator}"
        if begun and not is_used:
            raise UsageError(
                f"the store is empty, but {begun}: it is not the store of this home. Put the right address "
                "into KEEPLINE_STORE_DSN, or the store's backup into the database; to begin anew: "
                "`keepline clean --yes`"
            )
        return
    kept = row[0]
    home_id = kept["home_id"]
    _confirm_home(settings, home_id)
    if home_id is not None and settings.store_dsn.get_secret_value():
        confirm_original(settings.home)
    for name in KEYS:
        given = fingerprint(name, getattr(settings, name).get_secret_value())
        if given and kept[name] and given != kept[name]:
            raise _another_key(name, kept[name], given, "the store was filled under")
    for name, harm in MEANINGS.items():
        before, now = kept.get(name), getattr(settings, name)
        if before is not None and now != before:
            raise _another_meaning(name, before, now, harm)


def register(connection: Connection, settings: Settings) -> None:
    """Write into the store whose it is and what gives its rows their meaning; the schema `ops` must be.

    What is written once stays; a store of an older version takes the settings of its next run.

    Raises:
        UsageError: what landed was made under another key.
    """
    connection.execute(TABLE)
    meaning = {name: getattr(settings, name) for name in MEANINGS}
    connection.execute(
        "update ops.home set operator = %(operator)s, timezone = %(timezone)s"
        " where operator is null and timezone is null",
        meaning,
    )
    given = fingerprints(settings)
    # A key that is given only now is that of this store from here on.
    for name in KEYS:
        connection.execute(
            SQL("update ops.home set {0} = %s where {0} = ''").format(Identifier(name)),
            [given[name]],
        )
    if connection.execute("select one from ops.home where home_id is not null").fetchone():
        _note_store(settings)
        return
    _confirm_landing(settings, given["pseudonym_key"])
    connection.execute(
        "insert into ops.home (home_id, pseudonym_key, vault_key, key_version, operator, timezone)"
        " values (%s, %s, %s, %s, %s, %s)"
        " on conflict (one) do update set home_id = excluded.home_id, since_at = now()",
        [identify(settings.home).id, *given.values(), KEY_VERSION, *meaning.values()],
    )
    _note_store(settings)


def owns(connection: Connection, settings: Settings) -> bool:
    """Tell whether a store belongs to this home and to no other."""
    known = identity(settings.home)
    is_known = connection.execute("select to_regclass('ops.home') is not null").fetchone()
    if known is None or is_known != (True,):
        return False
    try:
        confirm_original(settings.home)
    except AnotherHomeError:
        return False
    return connection.execute("select home_id from ops.home").fetchone() == (known.id,)


def _note_store(settings: Settings) -> None:
    known = identify(settings.home)
    if settings.operator not in known.stores:
        change(settings.home, stores=tuple(sorted({*known.stores, settings.operator})))


def _confirm_home(settings: Settings, home_id: str | None) -> None:
    known = identity(settings.home)
    if home_id is None or (known is not None and known.id == home_id):
        return
    raise AnotherHomeError(
        f"the store belongs to another home than {settings.home}. Set KEEPLINE_HOME to that home, or "
        "KEEPLINE_STORE_DSN to this home's store. Only if that home is lost for good, and this one takes "
        f"over what its store holds: `{TAKE_OVER}` in the store"
    )


def _confirm_landing(settings: Settings, given: str) -> None:
    """Compare with one manifest of each table: all of a store's landing is made under one key."""
    for table in settings.landing_dir.glob("*"):
        manifest = next(table.glob("*=*/_manifest.json"), None)
        if manifest is None:
            continue
        try:
            before = json.loads(manifest.read_bytes())["keys"]["pseudonym_key"]
        except (ValueError, KeyError, TypeError, OSError):
            continue  # of a version that kept none, or damaged, which `load` says
        if before != given:
            raise _another_key(
                "pseudonym_key", before, given, f"{manifest.parent.parent} landed under"
            )


def _another_key(name: str, before: str, given: str, what: str) -> UsageError:
    return UsageError(
        f"KEEPLINE_{name.upper()} is another key (fingerprint {given}) than the one that {what} "
        f"({before}): nothing that was made under one fits what is made under the other, and nothing was "
        f"written. {way_out(name)}"
    )


def _another_meaning(name: str, before: str, now: str, harm: str) -> UsageError:
    variable = f"KEEPLINE_{name.upper()}"
    return UsageError(
        f"{variable} is {now}, and what the store holds was made with {before}: {harm}. Nothing was "
        f"written. Set {variable}={before}. To change it: begin a new home and a new store (KEEPLINE_HOME, "
        "KEEPLINE_STORE_DSN), or `keepline clean --yes` here, and take all days in again"
    )


def way_out(name: str) -> str:
    """Return what to do without the key that a home was begun with."""
    return (
        f"Put that one back from the home's backup, as secrets/keepline_{name} below KEEPLINE_HOME or in "
        "the variable. If it is lost for good: begin a new home and a new store (KEEPLINE_HOME, "
        "KEEPLINE_STORE_DSN), or `keepline clean --yes` here"
    )


def _close(home: Path) -> None:
    """Let nobody else read what is in a home; as root, its server's user may pass through to its own."""
    mine = os.geteuid()
    if home.stat().st_uid != mine:
        return
    for entry in home.iterdir():
        # The server's folder is its user's, and closed by itself.
        with contextlib.suppress(FileNotFoundError):  # of another first run
            if not entry.is_symlink() and entry.stat().st_uid == mine:
                entry.chmod(entry.stat().st_mode & 0o700)
    home.chmod(0o711 if mine == 0 else 0o700)


def _draft(home: Path, said: Identity) -> Path:
    # Containers that share a home have the same process numbers.
    draft = home / f".{FILE}.{uuid.uuid4().hex}"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(said), file)
    return draft
