"""Where the site's sentences go: the terminal, and ``logs/agent.log`` with times."""

import logging
import sys
from logging.handlers import RotatingFileHandler

from site_kits.site_home import SiteHome


def log_to(home: SiteHome) -> None:
    """Sentences to the terminal, the same with times to logs/agent.log (three files of 2 MiB)."""
    home.logs.mkdir(parents=True, exist_ok=True)
    screen = logging.StreamHandler(sys.stdout)
    screen.setFormatter(logging.Formatter("%(message)s"))
    file = RotatingFileHandler(home.logs / "agent.log", maxBytes=2 * 2**20, backupCount=2, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("consilium.site")
    logger.setLevel(logging.INFO)
    logger.handlers = [screen, file]
    logger.propagate = False
