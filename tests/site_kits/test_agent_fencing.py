"""When NVFlare's client has to start anew: it reads what is permitted at its start only."""

import threading
import time

from site_kits.agent.processes import end_marked
from site_kits.agent.run import Agent
from tests.approvals import write_policy
from tests.site_kits.site_doubles import wait_until
from tests.site_kits.test_agent_disk import child


def test_a_stale_child_starts_anew_at_once(home):
    stale = child(home)
    stale.tick()
    before, stale.is_stale = stale.pid, True
    stale.tick()
    assert (stale.state, stale.pid) == ("held", None)
    stale.tick()
    assert stale.state == "running"
    assert stale.pid not in (None, before)
    assert stale.restarts == 0
    stale._process.kill()
    stale.stopped()


def test_a_client_that_began_closed_starts_anew_when_the_policy_opens(home, monkeypatch):
    agent = Agent(home)
    write_policy(home.root, "[studies]\nallow = []\n")
    children = {"client": child(home)}
    children["client"].command = lambda: (agent._client_command(), child(home).command())[1]
    monkeypatch.setattr("site_kits.agent.run._TICK_S", 0.01)
    watching = threading.Thread(target=agent._watch, args=(children,), daemon=True)
    watching.start()
    try:
        before = wait_until(lambda: children["client"].pid)
        agent._fence.renew()
        assert children["client"].pid == before
        write_policy(home.root)
        agent._fence.renew()  # as the heartbeat does
        again = wait_until(lambda: children["client"].pid not in (None, before) and children["client"].pid)
        write_policy(home.root, "[studies]\nallow = []\n")
        agent._fence.renew()  # closing needs no start: the gate stops every task meanwhile
        time.sleep(0.2)
        assert children["client"].pid == again
    finally:
        agent.stop.set()
        watching.join(5)
        end_marked(home, ["client"], grace_s=1)
        children["client"].stopped()
