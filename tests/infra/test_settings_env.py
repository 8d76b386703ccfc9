import base64
from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured

from infra.settings import env

# a statement ends with its client; a commit is on the disk
SESSION = {"options": "-c client_connection_check_interval=1000 -c synchronous_commit=on"}


def test_a_postgresql_url_is_taken_apart(tmp_path):
    found = env.read_database(
        {"DATABASE_URL": "postgres://me:p%40ss@db:5433/name%20x?sslmode=require"}, tmp_path
    )
    assert (found["USER"], found["PASSWORD"], found["HOST"], found["PORT"]) == ("me", "p@ss", "db", "5433")
    assert (found["NAME"], found["OPTIONS"]) == ("name x", {"sslmode": "require", **SESSION})


def test_a_socket_folder_may_stand_in_the_query(tmp_path):
    found = env.read_database({"DATABASE_URL": "postgresql://postgres@/db?host=/run/pg"}, tmp_path)
    assert (found["HOST"], found["OPTIONS"]) == ("/run/pg", SESSION)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://x/y",
        "postgres://host",
        "postgres://u:secret@h:port/db",
        "postgres://h/db?evil=1",
        "x",
        "sqlite://",
    ],
)
def test_a_bad_url_is_a_sentence_that_does_not_repeat_the_password(tmp_path, url):
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL") as caught:
        env.read_database({"DATABASE_URL": url}, tmp_path)
    assert "secret" not in str(caught.value)


def test_without_a_url_sqlite_waits_instead_of_failing(tmp_path):
    options = env.read_database({}, tmp_path)["OPTIONS"]
    assert options["transaction_mode"] == "IMMEDIATE"
    assert "synchronous=FULL" in options["init_command"]


def test_the_file_broker_has_its_folders_and_polls_twenty_times_a_second(tmp_path):
    url, options = env.read_broker({}, tmp_path)
    assert url.startswith("filesystem://")
    assert options["polling_interval"] == 0.05
    assert (tmp_path / "broker" / "queue").is_dir()


def test_an_unknown_broker_is_refused(tmp_path):
    with pytest.raises(ImproperlyConfigured, match="CELERY_BROKER_URL"):
        env.read_broker({"CELERY_BROKER_URL": "kafka://x"}, tmp_path)


@pytest.mark.parametrize("text", ["", "x", base64.b64encode(b"short").decode(), "é" * 44])
def test_a_bad_master_key_is_refused(text):
    with pytest.raises(ImproperlyConfigured, match="CONSILIUM_MASTER_KEY"):
        env.read_master_key({"CONSILIUM_MASTER_KEY": text})


@pytest.mark.parametrize("text", ["localhost", "ftp://x", "http://x/path", "http://x:99999", "http://"])
def test_a_bad_origin_is_refused(text):
    with pytest.raises(ImproperlyConfigured, match="WEB"):
        env.read_origin({"WEB": text}, "WEB", "http://x", ("http", "https"))


@pytest.mark.parametrize("text", ["0", "65536", "x", "-1", "٣"])
def test_a_bad_port_is_refused(text):
    with pytest.raises(ImproperlyConfigured, match="PORT"):
        env.read_port({"PORT": text}, "PORT", 1)


def test_a_home_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ImproperlyConfigured, match="Choose another folder"):
        env.read_home({"CONSILIUM_HOME": str(tmp_path / "file" / "x")}, tmp_path)


def test_two_purposes_have_two_keys():
    assert env.derive_key(b"k" * 32, "a") != env.derive_key(b"k" * 32, "b")


def test_a_certificates_life_is_ninety_days_unless_set_shorter():
    assert env.read_lifetime({}, "LIFE") == timedelta(days=90)
    assert env.read_lifetime({"LIFE": "30"}, "LIFE") == timedelta(seconds=30)


@pytest.mark.parametrize("text", ["0", "9", "7776001", "-30", "30s", "1e3", "３０"])
def test_a_life_that_cannot_be_is_refused(text):
    with pytest.raises(ImproperlyConfigured, match="LIFE is"):
        env.read_lifetime({"LIFE": text}, "LIFE")
