"""Who may speak to the NVFlare server, and the private parts of NVFlare 2.9 that the gate holds on to."""

import inspect
import secrets
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from nvflare.fuel.f3.cellnet.cell import Cell, SimpleWaiter
from nvflare.fuel.f3.drivers import base_driver, grpc_driver
from nvflare.fuel.f3.endpoint import EndpointState
from nvflare.fuel.f3.sfm.conn_manager import ConnManager
from nvflare.lighter.utils import sign_content
from nvflare.private.fed.server.client_manager import ClientManager
from nvflare.private.fed.server.cred_keeper import CredKeeper
from nvflare.private.fed.server.fed_server import FederatedServer
from nvflare.private.fed.utils.identity_utils import IdentityVerifier, InvalidAsserterCert

from fl_jobs.flare import wire
from fl_jobs.flare.answers import Answers
from fl_jobs.flare.certificate_gate import PAUSE_S, CertificateRefusedError, ConnectionWatch, GuardedVerifier
from fl_jobs.flare.exchange import NOT_ALLOWED, Exchange
from fl_jobs.flare.lost_connection import LostConnection
from fl_jobs.packaging.allow_list import ALLOW_LIST, AllowList, encode_allow_list
from site_kits.provisioning import ca
from tests.e2e.allowed import make_request
from tests.site_kits.site_doubles import wait_until


@pytest.fixture(scope="module")
def authority():
    return ca.create_ca("Test")


@pytest.fixture
def server(tmp_path):
    """A server's folder; ``allow`` replaces its list."""
    (tmp_path / "local").mkdir()
    return SimpleNamespace(
        root=tmp_path,
        allow=lambda *lists: (tmp_path / ALLOW_LIST).write_bytes(encode_allow_list(*lists)),
        list=AllowList(tmp_path),
    )


def later(seconds=60.0):
    return time.time() + seconds


def issue(authority, name="hospital-a"):
    key_pem, csr = make_request(name)
    pem = ca.sign_site_csr(*authority, csr, site=name, organisation="test")
    return load_pem_private_key(key_pem, None), x509.load_pem_x509_certificate(pem)


def serial(certificate):
    return f"{certificate.serial_number:x}"


def test_the_list_is_read_again_whenever_it_changes(server):
    server.allow({"a": {"1f": later()}})
    assert server.list.allows("a", "1f")
    assert server.list.knows("a")
    server.allow({"a": {"2f": later()}})
    assert not server.list.allows("a", "1f")
    assert server.list.allows("a", "2f")
    assert not server.list.allows("b", "2f")


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"allowed": {"a": ["1f"]}}', b"\xff" * 9])
def test_a_list_that_cannot_be_used_lets_nobody_in_and_says_so(server, content):
    server.allow({"a": {"1f": later()}})
    assert server.list.allows("a", "1f")
    (server.root / ALLOW_LIST).unlink()
    if content is not None:
        (server.root / ALLOW_LIST).write_bytes(content)
    assert not server.list.allows("a", "1f")
    assert "nobody is let in" in server.list.fault


def test_a_certificate_expires_on_the_list_without_anybody_writing(server):
    server.allow({"a": {"1f": later(-1)}})
    assert not server.list.allows("a", "1f")
    assert not server.list.knows("a")


def test_a_genuine_certificate_registers_only_while_its_serial_number_is_allowed(server, authority, tmp_path):
    (tmp_path / "root.pem").write_bytes(authority[1].public_bytes(Encoding.PEM))
    guarded = GuardedVerifier(IdentityVerifier(str(tmp_path / "root.pem")), server.list)
    key, certificate = issue(authority)
    nonce = secrets.token_hex(8)
    asked = {"asserted_cn": "hospital-a", "nonce": nonce, "intermediate_certs": []}
    signature = sign_content("hospital-a" + nonce, key, return_str=False)
    server.allow({"hospital-a": {serial(certificate): later()}})
    assert guarded.verify_common_name(**asked, asserter_cert=certificate, signature=signature)
    server.allow({"hospital-b": {serial(certificate): later()}})
    with pytest.raises(CertificateRefusedError, match="not allowed"):
        guarded.verify_common_name(**asked, asserter_cert=certificate, signature=signature)


def test_a_certificate_of_another_root_is_refused_although_its_number_is_allowed(server, authority, tmp_path):
    (tmp_path / "root.pem").write_bytes(authority[1].public_bytes(Encoding.PEM))
    guarded = GuardedVerifier(IdentityVerifier(str(tmp_path / "root.pem")), server.list)
    key, certificate = issue(ca.create_ca("Foreign"))
    server.allow({"hospital-a": {serial(certificate): later()}})
    signature = sign_content("hospital-a" + "n", key, return_str=False)
    with pytest.raises(InvalidAsserterCert):
        guarded.verify_common_name("hospital-a", "n", certificate, signature, intermediate_certs=[])


class GrpcDriver:
    """What the watch needs of NVFlare's driver of that name."""

    def __init__(self):
        self.conn_lock, self.connections = threading.Lock(), {}

    def add_connection(self, connection):
        self.connections[connection.name] = connection


def connection(name, certificate):
    context = SimpleNamespace(
        auth_context=lambda: {"x509_pem_cert": [certificate.public_bytes(Encoding.PEM)]},
        cancel=lambda: made.events.append("cancelled"),
    )
    made = SimpleNamespace(name=name, context=context, events=[])
    made.close = lambda: made.events.append("closed")
    return made


def test_an_open_connection_is_cut_and_its_session_ended_when_the_certificate_is_taken_off(server, authority):
    from nvflare.fuel.f3.drivers.connector_info import Mode

    driver, (_key, certificate) = GrpcDriver(), issue(authority)
    connectors = {"one": SimpleNamespace(driver=driver, mode=Mode.PASSIVE)}
    heard = {}
    manager = SimpleNamespace(connectors=connectors, sfm_conns=heard)
    clients = SimpleNamespace(
        lock=threading.Lock(),
        clients={"token": SimpleNamespace(name="hospital-a")},
    )
    cell = SimpleNamespace(core_cell=SimpleNamespace(communicator=SimpleNamespace(conn_manager=manager)))
    said = []
    nvflare = SimpleNamespace(client_manager=clients, cell=cell, logout_client=clients.clients.pop)
    watch = ConnectionWatch(nvflare, server.list, said.append)
    watch.guard_new_connections()
    server.allow({"hospital-a": {serial(certificate): later()}})
    driver.add_connection(stays := connection("c1", certificate))
    watch.look()
    assert stays.events == []
    assert clients.clients
    heard["c1"] = SimpleNamespace(last_activity=time.time())
    server.allow({}, {"hospital-a": {serial(certificate): later()}})
    watch.look()
    assert stays.events == []  # the site has a newer one and is speaking; nothing is lost
    heard["c1"].last_activity -= PAUSE_S
    watch.look()
    assert stays.events == ["closed", "cancelled"]
    stays.events.clear()
    heard["c1"].last_activity = time.time()
    server.allow({})
    watch.look()
    assert stays.events == ["closed", "cancelled"]  # revoked: at once
    wait_until(lambda: not clients.clients)
    with pytest.raises(CertificateRefusedError):
        driver.add_connection(connection("c2", certificate))
    assert "c2" not in driver.connections
    assert [line for line in said if "c2" in line]


class Controller:
    """Answers every task at once, as a site does that has not heard of its revocation."""

    def __init__(self, communicate):
        self.asked, self._communicate = [], communicate

    def broadcast(self, task, fl_ctx, targets, min_responses):
        self.asked += targets
        self._communicate(task, targets)

    def get_client_disconnect_time(self, _name):
        return None

    def cancel_task(self, task, status):
        task.completion_status = status


def exchange(controller, allows):
    sites = ["a", "b", "c"]
    engine = SimpleNamespace(get_clients=lambda: [SimpleNamespace(name=name) for name in sites])
    presence = SimpleNamespace(gone=lambda _sites: set())
    abort = SimpleNamespace(triggered=False)
    context = SimpleNamespace(get_engine=lambda: engine)
    return Exchange(controller, sites, presence, abort, context, task_timeout_s=60, allows=allows)


def test_a_site_that_is_revoked_is_asked_nothing_and_nobody_waits_for_it():
    answers = Answers(["a", "b", "c"], 2, lambda _site, _result: 1)
    controller = Controller(lambda task, targets: [_give(task, name) for name in targets])
    asked = exchange(controller, {"a", "b"}.__contains__)
    assert asked.at_work() == ["a", "b"]
    asked.broadcast("train", wire.Shareable(), answers)
    assert controller.asked == ["a", "b"]
    assert answers.refusals == {"c": NOT_ALLOWED}
    assert set(answers.accepted) == {"a", "b"}


def test_what_a_site_sends_after_its_revocation_is_not_read():
    allowed, read = {"a", "b", "c"}, []

    def revoke_then_answer(task, targets):
        allowed.discard("c")
        for name in targets:
            _give(task, name)

    answers = Answers(["a", "b", "c"], 2, lambda site, _result: read.append(site))
    exchange(Controller(revoke_then_answer), allowed.__contains__).broadcast(
        "train", wire.Shareable(), answers
    )
    assert read == ["a", "b"]
    assert answers.refusals == {"c": NOT_ALLOWED}


def _give(task, name):
    task.result_received_cb(SimpleNamespace(client=SimpleNamespace(name=name), result=wire.Shareable()), None)


def test_nvflare_keeps_its_verifier_its_connections_and_its_clients_where_the_gate_looks():
    """The private API of 2.9. When this fails after an update, read certificate_gate.py first."""
    assert "self.cred_keeper.get_id_verifier(fl_ctx)" in inspect.getsource(ClientManager._get_id_verifier)
    assert list(inspect.signature(CredKeeper.get_id_verifier).parameters) == ["self", "fl_ctx"]
    names = [
        "self",
        "asserted_cn",
        "nonce",
        "asserter_cert",
        "signature",
        "intermediate_certs",
        "expected_eku",
    ]
    assert list(inspect.signature(IdentityVerifier.verify_common_name).parameters) == names
    assert "id_verifier.verify_common_name(" in inspect.getsource(ClientManager.authenticated_client)
    manager = ClientManager("project")
    assert (manager.clients, hasattr(manager.lock, "acquire")) == ({}, True)
    assert list(inspect.signature(FederatedServer.logout_client).parameters) == ["self", "token"]
    driver = grpc_driver.GrpcDriver()
    assert (driver.connections, hasattr(driver.conn_lock, "acquire")) == ({}, True)
    assert issubclass(grpc_driver.GrpcDriver, base_driver.BaseDriver)
    stream = inspect.getsource(grpc_driver.Servicer.Stream)
    refused_before_read = stream.index("self.server.driver.add_connection(connection)")
    assert refused_before_read < stream.index("connection.read_loop")
    made = grpc_driver.StreamConnection(None, None, {}, "SERVER", context="context")
    assert made.context == "context"
    assert {"cancel", "auth_context"} <= set(dir(grpc.ServicerContext))
    assert "self.connectors" in inspect.getsource(ConnManager.__init__)


def test_whoever_waits_for_the_server_is_told_at_once_when_the_connection_is_lost():
    """Cell.send_request of 2.9 looks at these three fields, and NVFlare's stream errors set the same."""
    cell = SimpleNamespace(requests_dict={})
    for number, target in enumerate(("server", "server.job-1", "hospital-b")):
        cell.requests_dict[number] = SimpleWaiter(number, target, None)
    LostConnection(cell).state_change(SimpleNamespace(name="server", state=EndpointState.READY))
    assert not any(waiter.in_receiving.is_set() for waiter in cell.requests_dict.values())
    LostConnection(cell).state_change(SimpleNamespace(name="server", state=EndpointState.DISCONNECTED))
    told = [waiter.target for waiter in cell.requests_dict.values() if waiter.in_receiving.is_set()]
    assert told == ["server", "server.job-1"]
    source = inspect.getsource(Cell._send_one_request)
    assert "conditional_wait(waiter.in_receiving" in source
    assert "if waiter.stream_error:" in source
    assert "self.requests_dict[req_id] = waiter" in source


def test_a_site_certificate_can_last_seconds(authority):
    _key, csr = make_request("hospital-a")
    lifetime = timedelta(seconds=30)
    pem = ca.sign_site_csr(*authority, csr, site="hospital-a", organisation="t", lifetime=lifetime)
    left = x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp() - time.time()
    assert 28 < left <= 30
