"""The vault: personal fields that must never land, encrypted one by one into the store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import date

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg.rows import TupleRow

from keepline import store
from keepline.errors import BadDataError, SourceUnavailableError, UsageError
from keepline.home import KEY_VERSION
from keepline.settings import Settings

NONCE_BYTES = 12
COPY = (
    "copy incoming (table_name, key_text, column_name, load_date, ciphertext, key_version)"
    " from stdin (format binary)"
)
COPY_TYPES = ("text", "text", "text", "date", "bytea", "int4")


class VaultWriter:
    """Replaces one table's values of some load dates, all or nothing; a context manager.

    Nothing is visible before `commit`; leaving without it changes nothing.
    """

    def __init__(self, settings: Settings, table: str) -> None:
        self._cipher = AESGCM(vault_key(settings))
        self._settings = settings
        self._table = table
        self._connection: psycopg.Connection[TupleRow] | None = None

    def __enter__(self) -> VaultWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def add(self, values: Iterable[tuple[date, str, str, str]]) -> None:
        """Encrypt and add values.

        Args:
            values: load date, key columns joined by `|`, column and value in clear.
        """
        with self._lost(), self._open().cursor() as cursor, cursor.copy(COPY) as copy:
            copy.set_types(COPY_TYPES)
            for load_date, key, column, value in values:
                sealed = self._seal(value, place(self._table, key, column, load_date))
                copy.write_row((self._table, key, column, load_date, sealed, KEY_VERSION))

    def commit(self, days: Sequence[date]) -> None:
        """Replace the values of these days; those of a held day stay as they were."""
        with self._lost():
            connection = self._open()
            connection.execute(
                "delete from vault.personal_value where table_name = %s and load_date = any(%s)",
                [self._table, list(days)],
            )
            connection.execute(
                "insert into vault.personal_value select * from incoming where load_date = any(%s)",
                [list(days)],
            )
            connection.commit()

    @contextlib.contextmanager
    def _lost(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            raise UsageError("the store has no vault yet: run `keepline migrate` first") from None
        except psycopg.OperationalError:
            raise SourceUnavailableError("lost the connection to the store's vault") from None

    def _open(self) -> psycopg.Connection[TupleRow]:
        if self._connection is None:
            self._connection = store.connect(self._settings)
            # Which days are good is known when all have been read.
            self._connection.execute(
                "create temp table incoming (like vault.personal_value) on commit drop"
            )
        return self._connection

    def _seal(self, value: str, associated: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, value.encode(), associated)


def open_value(settings: Settings, ciphertext: bytes, associated: bytes) -> str:
    """Decrypt a value of the vault.

    For the operator's data protection officer, who must answer a person, in a program of their own
    that holds the key and logs each use. No stage and no command of keepline calls it: nothing in the
    pipeline needs a value in clear.

    Args:
        settings: hold the key.
        ciphertext: nonce and sealed value, as in `vault.personal_value`.
        associated: its `place`; a value that was moved to another row does not open.

    Raises:
        BadDataError: the key is another one, or the value was changed or moved.
    """
    try:
        nonce, sealed = ciphertext[:NONCE_BYTES], ciphertext[NONCE_BYTES:]
        return AESGCM(vault_key(settings)).decrypt(nonce, sealed, associated).decode()
    except InvalidTag:
        raise BadDataError(
            "a value of the vault does not open: KEEPLINE_VAULT_KEY is another key, or it was changed"
        ) from None


def place(table: str, key: str, column: str, load_date: date) -> bytes:
    """Return what binds a sealed value to its row of the vault."""
    return "\n".join((table, key, column, load_date.isoformat())).encode()


def vault_key(settings: Settings) -> bytes:
    """Return the key of AES-256.

    Raises:
        UsageError: it is not 32 bytes in hex.
    """
    try:
        key = bytes.fromhex(settings.vault_key.get_secret_value())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise UsageError("KEEPLINE_VAULT_KEY must be 32 bytes written as 64 hex digits")
    return key
