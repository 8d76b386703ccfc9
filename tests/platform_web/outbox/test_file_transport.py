import subprocess
import sys
from queue import Empty

import pytest
from kombu import Connection
from kombu.transport import resolve_transport

from platform_web.outbox import file_transport

SENDER = """
import sys
from kombu import Connection
folder, sender = sys.argv[1:]
options = {"data_folder_in": folder, "data_folder_out": folder, "control_folder": folder + "/control"}
transport = "platform_web.outbox.file_transport:Transport"
with Connection(transport=transport, transport_options=options) as connection:
    queue = connection.SimpleQueue("bells")
    for number in range(200):
        queue.put({"sender": sender, "number": number})
"""


@pytest.fixture
def connection(tmp_path):
    (tmp_path / "control").mkdir()
    options = {
        "data_folder_in": str(tmp_path),
        "data_folder_out": str(tmp_path),
        "control_folder": str(tmp_path / "control"),
        "polling_interval": 0.001,
    }
    with Connection(transport=file_transport.Transport, transport_options=options) as connection:
        yield connection


def test_the_portal_s_filesystem_broker_is_this_one():
    assert resolve_transport("filesystem") is file_transport.Transport


def test_messages_come_back_in_order_and_leave_nothing(connection, tmp_path):
    queue = connection.SimpleQueue("bells")
    for number in range(3):
        queue.put({"number": number})
    assert [queue.get(timeout=5).payload["number"] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(Empty):
        queue.get(block=False)
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


def test_a_reader_never_sees_half_a_message_while_two_processes_write(connection, tmp_path):
    queue = connection.SimpleQueue("bells")
    senders = [subprocess.Popen([sys.executable, "-c", SENDER, str(tmp_path), name]) for name in "ab"]
    seen = [queue.get(timeout=30).payload for _ in range(400)]
    assert [sender.wait(30) for sender in senders] == [0, 0]
    for name in "ab":
        assert [each["number"] for each in seen if each["sender"] == name] == list(range(200))
