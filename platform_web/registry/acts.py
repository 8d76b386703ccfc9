"""What this app writes to the audit log, and what an entry of each act may carry."""

from compliance.events import register

register("model.promoted", frozenset({"arm", "proposed", "replaces"}))
register("model.withdrawn")
register("model.delivered")
register("evidence.asked", frozenset({"language"}))
register("evidence.issued", frozenset({"language", "failing", "key"}))
register("evidence.fetched")
