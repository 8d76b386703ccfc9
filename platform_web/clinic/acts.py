"""What this app writes to the audit log, and what an entry of each act may carry."""

from compliance.events import register

register("ticket.issued", frozenset({"study", "arm", "expires"}))
