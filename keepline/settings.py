"""Every setting of keepline, read once from the environment and passed down.

`.env.example` lists the variables. Secrets may be files instead: each file in
`$KEEPLINE_HOME/secrets` or `/run/secrets` that bears the variable's name in lower case.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from keepline import failpoint, home
from keepline.errors import UsageError

_CODE = Path(__file__).resolve().parent
# In a checkout the dbt project, DAGs and operators lie beside the package; the wheel brings them in it.
PACKAGED = (_CODE / "project").is_dir()
PROJECT_DIR = _CODE / "project" if PACKAGED else _CODE.parent
PREFIX = "KEEPLINE_"
# Beside the code, wherever the command is typed: another folder would be another warehouse. What was
# installed by pip has no such place, so that the home must be named.
HOME = None if PACKAGED else PROJECT_DIR / ".keepline"
SECRET_NAMES = (
    "pseudonym_key",
    "vault_key",
    "store_password",
    "extractor_password",
    "bi_reader_password",
    "marketing_password",
)
# PostgreSQL's client follows these wherever a connection string says, so that it could end elsewhere, in a
# session that cannot write, or nowhere.
REDIRECTING = (
    *("PGSERVICE", "PGHOSTADDR", "PGOPTIONS", "PGLOADBALANCEHOSTS"),
    *("PGREQUIREAUTH", "PGCHANNELBINDING", "PGDATESTYLE"),
)
# As DuckDB writes it.
MEMORY = r"^\d+(\.\d+)? ?([KMGTkmgt][iI]?[bB]|%)$"
KEY = re.compile("[0-9a-fA-F]{64}")
# Read by operator files, not by keepline itself; see operators/*.yml.
OPERATOR_PREFIXES = ("KEEPLINE_DEMO_",)


class Settings(BaseSettings):
    """One frozen set of settings; no other code reads the environment.

    Attributes:
        home: folder of everything that keepline writes.
        operator: which file of the operators' folder describes the source systems.
        operators_dir: folder of the operator files.
        timezone: the operator's zone; business days are its local days.
        compute: engine that runs dbt.
        compute_dsn: PostgreSQL database of the engine `postgres`; empty means one on the store's server.
        spark_master: where Spark computes, as Spark writes it.
        compute_memory_limit: memory that DuckDB may take, as DuckDB writes it ("2GB").
        compute_threads: threads of DuckDB and LightGBM.
        store_dsn: PostgreSQL of the store as the pipeline's login; empty means the embedded server.
        lease_wait_s: seconds that a writing command waits for another one to end.
        store_port: port of the embedded server; 0 takes the first free one from 54320.
        quarantine_limit_share: a table's load date of which a larger share is quarantined is held, unless
            the contract says otherwise.
        releases_kept: releases that stay available to `keepline rollback`.
        pseudonym_key: hex key of the HMAC that replaces identifiers, 32 bytes.
        vault_key: hex key that encrypts personal fields, 32 bytes.
        store_password: password of the pipeline's login in the embedded store.
        extractor_password: password of the demo operator's read-only login.
        bi_reader_password: password of the login `bi_reader` in the embedded store.
        marketing_password: password of the login `marketing` in the embedded store.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        # `KEEPLINE_VAULT_KEY=` of a copied .env.example is not a key.
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    home: Path = Field(default=HOME) if HOME else Field()
    operator: str = "demo"
    operators_dir: Path = PROJECT_DIR / "operators"
    timezone: str = "Asia/Shanghai"
    compute: Literal["duckdb", "postgres", "spark"] = "duckdb"
    compute_dsn: SecretStr = SecretStr("")
    spark_master: str = "local[2]"
    compute_memory_limit: str = Field(default="2GB", pattern=MEMORY)
    compute_threads: int = Field(default=2, ge=1, le=1024)
    store_dsn: SecretStr = SecretStr("")
    store_port: int = Field(default=0, ge=0, le=65535)
    quarantine_limit_share: float = Field(default=0.01, ge=0, le=1)
    releases_kept: int = Field(default=7, ge=1)
    # 0 would be for ever, and PostgreSQL counts milliseconds in 31 bits.
    lease_wait_s: int = Field(default=900, ge=1, le=2_000_000)
    pseudonym_key: SecretStr = SecretStr("")
    vault_key: SecretStr = SecretStr("")
    store_password: SecretStr = SecretStr("")
    extractor_password: SecretStr = SecretStr("")
    bi_reader_password: SecretStr = SecretStr("")
    marketing_password: SecretStr = SecretStr("")

    @field_validator("home", "operators_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @field_validator("operator")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not value.isidentifier() or not value.islower():
            raise ValueError(f"{value!r} is not a lower-case word, such as demo")
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{value!r} is no time zone, such as Asia/Shanghai") from None
        return value

    @field_validator("pseudonym_key", "vault_key")
    @classmethod
    def _key(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not KEY.fullmatch(value.get_secret_value()):
            raise ValueError(
                "it is not 32 bytes written as 64 hex digits, as of openssl rand -hex 32"
            )
        return value

    @classmethod
    def load(cls, *, need_keys: bool = True) -> Settings:
        """Read the environment and the secret files.

        Secrets that are neither set nor in a file are made once and kept in
        `$KEEPLINE_HOME/secrets` (mode 0600), so that the embedded demo needs nothing by hand. Keys are
        made in an empty home only: what was made under lost ones would never fit again.

        Args:
            need_keys: without it, a key that is lost is left out, for the verbs that need none.

        Raises:
            UsageError: a variable is unknown or has a value that cannot be used, or a key is lost.
        """
        known = {PREFIX + name.upper() for name in cls.model_fields}
        unknown = sorted(
            name
            for name in os.environ
            if name.startswith(PREFIX)
            and name not in known
            and not name.startswith(OPERATOR_PREFIXES)
            and name != failpoint.VARIABLE
        )
        if unknown:
            raise UsageError(
                f"unknown setting {', '.join(unknown)}: see .env.example for the names"
            )
        redirecting = [name for name in REDIRECTING if os.environ.get(name)]
        if redirecting:
            raise UsageError(
                f"{' and '.join(redirecting)} would lead every connection to another server or session than "
                f"the settings name, or to none: unset {' '.join(redirecting)}, and put what you need into "
                "KEEPLINE_STORE_DSN"
            )
        given = os.environ.get(PREFIX + "HOME") or HOME
        if given is None:
            raise UsageError(
                "KEEPLINE_HOME is not set, and there is no checkout whose folder could be meant: say where "
                "keepline may keep what it writes (export KEEPLINE_HOME=~/keepline), then run the same "
                "command again"
            )
        folder = Path(given).expanduser().resolve()
        own = folder / "secrets"
        try:
            if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EROFS, "read-only")
            _make_missing_secrets(folder, own, need_keys=need_keys)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise home.unwritable(folder, error) from None
        # Later folders win: a mounted secret beats a generated one, the environment beats both.
        folders = [path for path in (own, Path("/run/secrets")) if path.is_dir()]
        try:
            return cls(_secrets_dir=folders)
        except ValidationError as error:
            problems = "; ".join(
                f"{PREFIX}{'_'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
                for item in error.errors(include_input=False, include_url=False)
            )
            raise UsageError(f"settings cannot be used: {problems}") from None

    @property
    def zone(self) -> ZoneInfo:
        """The operator's time zone."""
        return ZoneInfo(self.timezone)

    @property
    def store_database(self) -> str:
        """Name of the operator's database in the embedded store."""
        return f"keepline_{self.operator}"

    @property
    def operator_home(self) -> Path:
        """Folder of everything that belongs to the chosen operator."""
        return self.home / self.operator

    @property
    def landing_dir(self) -> Path:
        """Immutable Parquet by table and load date."""
        return self.operator_home / "landing"

    @property
    def quarantine_dir(self) -> Path:
        """Rows that broke the contract, by table and load date."""
        return self.operator_home / "quarantine"

    @property
    def compute_path(self) -> Path:
        """The DuckDB file; rebuildable from landing, never the only copy."""
        return self.operator_home / "compute.duckdb"

    @property
    def exchange_dir(self) -> Path:
        """Parquet snapshots between stages: features out, scores in."""
        return self.operator_home / "exchange"

    @property
    def models_dir(self) -> Path:
        """Trained models, one folder per version."""
        return self.operator_home / "models"

    @property
    def reports_dir(self) -> Path:
        """Morning reports, one folder per release."""
        return self.operator_home / "reports"

    @property
    def data_docs_dir(self) -> Path:
        """Great Expectations' Data Docs."""
        return self.operator_home / "data_docs"

    @property
    def drops_dir(self) -> Path:
        """Call-record drops of the simulated operator."""
        return self.operator_home / "drops"

    @property
    def truth_dir(self) -> Path:
        """What the simulator planted; only tests look here."""
        return self.operator_home / "truth"

    @property
    def dbt_dir(self) -> Path:
        """The dbt project."""
        return PROJECT_DIR / "dbt_project"

    @property
    def operator_file(self) -> Path:
        """The file that describes the operator's source systems."""
        return self.operators_dir / f"{self.operator}.yml"


def _make_missing_secrets(folder: Path, own: Path, *, need_keys: bool) -> None:
    for name in SECRET_NAMES:
        path = own / (PREFIX + name).lower()
        with suppress(OSError):
            if path.is_file() and not path.read_text().strip():
                raise UsageError(
                    f"{path} is empty, as after a full disk: put the file back from the home's backup. If it "
                    "was never filled, remove it, and it is made"
                )
    missing = [name for name in SECRET_NAMES if not _is_given(own, name)]
    kept = [*home.KEYS, "store_password"] if home.has_server(folder) else home.KEYS
    lost = [name for name in missing if name in kept] if home.is_begun(folder) else []
    if lost and need_keys:
        name = lost[0]
        raise UsageError(
            f"KEEPLINE_{name.upper()} is neither set nor in {own}, and what {folder} holds was made under "
            f"it. No other one is made in its place, and nothing was written. {home.way_out(name)}"
        )
    home.identify(folder)
    for name in missing:
        if name in lost:
            continue
        path = own / (PREFIX + name).lower()
        own.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Written whole and never over an existing one: two first runs at once agree on one key.
        draft = own / f".{path.name}.{os.getpid()}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32 if name.endswith("_key") else 16))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()


def _is_given(own: Path, name: str) -> bool:
    variable = (PREFIX + name).upper()
    file = variable.lower()
    return bool(
        (own / file).exists() or os.environ.get(variable) or (Path("/run/secrets") / file).exists()
    )


def parse_date(text: str) -> date:
    """Return a day written as 2026-06-30.

    Raises:
        UsageError: the text is not such a day.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a day: write it as 2026-06-30") from None
