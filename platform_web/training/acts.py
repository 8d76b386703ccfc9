"""What this app writes to the audit log, and what an entry of each act may carry."""

from compliance.events import register

register("study.opened", frozenset({"dataset", "kind", "labels", "teaching"}))
register("run.started", frozenset({"algorithm", "rounds", "sites"}))
register("run.prepared", frozenset({"tensors"}))
register("run.approved", frozenset({"by"}))
register("run.refused", frozenset({"by"}))
register("run.waiting_ended", frozenset({"approved", "waiting"}))
register("run.submitted", frozenset({"job", "epoch"}))
register("run.interrupted", frozenset({"epoch", "reason"}))
register("run.resumed", frozenset({"epoch", "start_round", "reason"}))
register("run.rejoin_asked", frozenset({"epoch", "sites"}))
register("run.stop_asked")
register("run.stopped", frozenset({"rounds"}))
register("run.failed", frozenset({"reason"}))
register("run.failure_reported")
register("run.finished", frozenset({"chosen", "sites"}))
register("run.collecting", frozenset({"job", "status"}))
register("run.completed", frozenset({"site_models_sha256", "rounds"}))
register("round.committed", frozenset({"sites", "contributors"}))
register("round.validated")
