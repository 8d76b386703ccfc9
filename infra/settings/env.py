"""Reading the environment. Every value that cannot be used gets a sentence saying what to set."""

import base64
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.core.exceptions import ImproperlyConfigured

Environment = Mapping[str, str]
MASTER_KEY_BYTES = 32
LIFETIME_MIN_S, LIFETIME_MAX_S = 10, 90 * 86_400
POSTGRES_OPTIONS = {
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "connect_timeout",
    "application_name",
}
# A statement whose client has gone (it waited long enough) does not stay behind in a lock's queue. What was
# acknowledged is on the disk, whatever the server or the role is set to; fsync itself no session can turn on.
POSTGRES_SESSION = "-c client_connection_check_interval=1000 -c synchronous_commit=on"


def read_master_key(environ: Environment) -> bytes:
    """The 32 bytes that seal every secret of the portal. Raises ImproperlyConfigured."""
    text = environ.get("CONSILIUM_MASTER_KEY", "")
    if not text:
        raise ImproperlyConfigured(
            "CONSILIUM_MASTER_KEY is not set. Set it to the base64 text of 32 random bytes "
            "(openssl rand -base64 32) and keep it: every secret of this portal is sealed with it."
        )
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != MASTER_KEY_BYTES:
        raise ImproperlyConfigured(
            "CONSILIUM_MASTER_KEY is not the base64 text of 32 bytes. Copy it again from where you keep it."
        )
    return key


def derive_key(master_key: bytes, purpose: str, length: int = 32) -> bytes:
    """A key for one purpose (HKDF-SHA-256), so that no key is used twice."""
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=f"consilium {purpose}".encode()).derive(
        master_key
    )


def read_home(environ: Environment, default: Path) -> Path:
    """The portal's folder, made 0700 when it is not there. Raises ImproperlyConfigured."""
    home = Path(environ.get("CONSILIUM_HOME") or default).expanduser().absolute()
    try:
        for folder in (home, *(home / name for name in ("logs", "kits", "static", "artifacts/sha256"))):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(
            f"CONSILIUM_HOME ({home}) cannot be made or written: {error.strerror}. Choose another folder."
        ) from error
    return home


def read_choice(environ: Environment, name: str, choices: tuple[str, ...]) -> str:
    """One of ``choices``; the first is the default."""
    value = environ.get(name) or choices[0]
    if value not in choices:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be one of {', '.join(choices)}.")
    return value


def read_port(environ: Environment, name: str, default: int) -> int:
    """A TCP port, 1 to 65535."""
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ImproperlyConfigured(f"{name} is {text!r}; it must be a port between 1 and 65535.")
    return int(text)


def read_lifetime(environ: Environment, name: str) -> timedelta:
    """How long a site's certificate lasts: 10 seconds (tests) to 90 days, in whole seconds; 90 days unset."""
    text = environ.get(name) or str(LIFETIME_MAX_S)
    if not text.isascii() or not text.isdigit() or not LIFETIME_MIN_S <= int(text) <= LIFETIME_MAX_S:
        raise ImproperlyConfigured(
            f"{name} is {text!r}; it must be seconds between {LIFETIME_MIN_S} and {LIFETIME_MAX_S} (90 days)."
        )
    return timedelta(seconds=int(text))


def read_origin(environ: Environment, name: str, default: str, schemes: tuple[str, ...]) -> str:
    """``scheme://host[:port]`` without a path."""
    text = (environ.get(name) or default).rstrip("/")
    try:
        parts = urlsplit(text)
        usable = (
            parts.scheme in schemes
            and bool(parts.hostname)
            and not (parts.path or parts.query or parts.fragment)
        )
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        raise ImproperlyConfigured(
            f"{name} is {text!r}; it must look like {schemes[0]}://host:port, without a path."
        )
    return text


def read_database(environ: Environment, home: Path) -> dict[str, Any]:
    """Django's DATABASES["default"] from DATABASE_URL; SQLite below ``home`` when it is not set."""
    url = environ.get("DATABASE_URL", "")
    if not url:
        return _sqlite(str(home / "db.sqlite3"))
    try:
        parts = urlsplit(url)
        port = parts.port
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError as error:
        raise _bad_database_url() from error
    name = unquote(parts.path[1:])
    if parts.scheme == "sqlite" and name:
        return _sqlite(name)
    if parts.scheme not in {"postgres", "postgresql"} or not name or set(options) - POSTGRES_OPTIONS:
        raise _bad_database_url()
    host = options.pop("host", "") or unquote(parts.hostname or "")
    return {
        "ENGINE": "platform_web.audit.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(port or ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {**options, "options": POSTGRES_SESSION},
    }


def _bad_database_url() -> ImproperlyConfigured:
    """The URL itself is not repeated: it may hold a password."""
    return ImproperlyConfigured(
        "DATABASE_URL cannot be used. Write postgres://user:password@host:5432/name "
        "(special characters percent-encoded; ?sslmode= and ?host= are known) or sqlite:////folder/file."
    )


def _sqlite(name: str) -> dict[str, Any]:
    return {
        "ENGINE": "platform_web.audit.sqlite",
        "NAME": name,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",  # waiting instead of "database is locked" on lock upgrade
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
        },
    }


def read_broker(environ: Environment, home: Path) -> tuple[str, dict[str, Any]]:
    """Celery's broker URL and transport options; files below ``home`` when CELERY_BROKER_URL is not set."""
    url = environ.get("CELERY_BROKER_URL") or "filesystem://localhost/"
    scheme = url.partition("://")[0]
    if scheme not in {"filesystem", "redis", "rediss", "amqp", "amqps", "memory"}:
        raise ImproperlyConfigured(
            "CELERY_BROKER_URL cannot be used. Leave it empty, or write redis://host:6379/0 or amqp://user@host:5672//."
        )
    if scheme == "filesystem":
        return url, _file_broker(home / "broker")
    if scheme in {"redis", "rediss"}:
        return url, {"visibility_timeout": 300, "socket_connect_timeout": 2, "socket_timeout": 5}
    return url, {}


def _file_broker(folder: Path) -> dict[str, Any]:
    """The folders are made here: kombu does not make them."""
    queue, control = folder / "queue", folder / "control"
    for path in (queue, control):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {
        "data_folder_in": str(queue),
        "data_folder_out": str(queue),
        "control_folder": str(control),
        "polling_interval": 0.05,  # kombu's default costs 1 s per message
    }
