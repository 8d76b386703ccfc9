"""What must not stand in a log: the token of a kit link is a secret until it is used."""

import logging
import re

KIT_LINK = re.compile(r"/kits/[^/\s?]+")


class HideTokens(logging.Filter):
    """Puts three dots for the token in every line that names a kit link."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "/kits/" in message:
            record.msg, record.args = KIT_LINK.sub("/kits/...", message), ()
        return True
