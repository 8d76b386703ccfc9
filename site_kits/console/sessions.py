"""Who is signed in to the console, and how often somebody may try to."""

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from site_kits.agent.passphrase import check_passphrase, passphrase_mark
from site_kits.site_home import SiteHome, read_state, write_state

IDLE_S = 30 * 60
LONGEST_S = 8 * 3600
FREE_ATTEMPTS = 5
LONGEST_WAIT_S = 300.0
_MAX_SESSIONS = 20


@dataclass
class Session:
    """One signed-in browser. ``note`` is a sentence for its next page: (state, sentence)."""

    began: float
    seen: float
    mark: str  # of the passphrase it was opened with
    note: tuple[str, str] | None = None


@dataclass
class Sessions:
    """Sessions live in memory: a restart of the console signs everybody out."""

    home: SiteHome
    clock: Callable[[], float] = time.monotonic
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _open: dict[str, Session] = field(default_factory=dict)

    def open(self) -> str:
        """A new session; its secret goes into the browser's cookie, here only its hash is kept."""
        now, secret = self.clock(), secrets.token_urlsafe(32)
        while len(self._open) >= _MAX_SESSIONS:
            del self._open[min(self._open, key=lambda one: self._open[one].seen)]
        self._open[_hash(secret)] = Session(now, now, passphrase_mark(self.home))
        return secret

    def find(self, secret: str, *, is_used: bool) -> Session | None:
        """The session of a cookie; ``is_used`` is False for a page that reloads itself."""
        now, name = self.clock(), _hash(secret)
        session = self._open.get(name)
        if session is None:
            return None
        is_over = now - session.seen > IDLE_S or now - session.began > LONGEST_S
        if is_over or session.mark != passphrase_mark(self.home):
            del self._open[name]
            return None
        if is_used:
            session.seen = now
        return session

    def close(self, secret: str) -> None:
        """Sign out."""
        self._open.pop(_hash(secret), None)

    def token_for(self, cookie: str) -> str:
        """What a form of the browser with this cookie must bring.

        Other ports of this machine are the same site to a browser; SameSite does not keep their pages out.
        """
        return hmac.new(self._key, cookie.encode(), hashlib.sha256).hexdigest()

    def is_token_of(self, cookie: str, token: str) -> bool:
        """Whether ``token`` is the one the page of this browser was given."""
        return bool(cookie) and hmac.compare_digest(self.token_for(cookie).encode(), token.encode())


class Attempts:
    """A wrong passphrase costs time: after five, 2 s, then twice as long each time up to five minutes.

    Kept on disk, so that ending the process gives no new attempts. One at a time: scrypt takes 32 MiB.
    """

    def __init__(self, home: SiteHome, clock: Callable[[], float] = time.time) -> None:
        self._home, self._clock = home, clock
        self._path = home.state / "console-attempts.json"
        self._lock = threading.Lock()

    def wait_s(self) -> float:
        """How long the next attempt has to wait."""
        record = read_state(self._path)
        failures, last = record.get("failures"), record.get("last")
        if not isinstance(failures, int) or not isinstance(last, (int, float)) or failures < FREE_ATTEMPTS:
            return 0.0
        pause = min(2.0 ** min(failures - FREE_ATTEMPTS + 1, 20), LONGEST_WAIT_S)
        return max(0.0, min(last + pause - self._clock(), pause))

    def check(self, typed: str) -> bool:
        """Whether ``typed`` is the passphrase; False without looking while the pause lasts."""
        with self._lock:
            if self.wait_s() > 0:
                return False
            failures = int(read_state(self._path).get("failures") or 0)
            # written before the answer is known: two processes or a kill give no attempt away
            write_state(self._path, {"failures": failures + 1, "last": self._clock()})
            if not check_passphrase(self._home, typed):
                return False
            self._path.unlink(missing_ok=True)
            return True


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
