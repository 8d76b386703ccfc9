"""The test suite: a fixed master key, a home of its own, quick passwords, no broker."""

import atexit
import base64
import os
import shutil
import tempfile

import django_stubs_ext

os.environ.setdefault("CONSILIUM_MASTER_KEY", base64.b64encode(b"consilium tests: 32 fixed bytes!").decode())
if "CONSILIUM_HOME" not in os.environ:
    os.environ["CONSILIUM_HOME"] = tempfile.mkdtemp(prefix="consilium-test-")
    atexit.register(shutil.rmtree, os.environ["CONSILIUM_HOME"], ignore_errors=True)

from infra.settings.base import *

django_stubs_ext.monkeypatch()
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
CELERY_BROKER_URL, CELERY_BROKER_TRANSPORT_OPTIONS = "memory://", {}
WHITENOISE_AUTOREFRESH = True  # no scan of every static file for each test client
AXES_ENABLED = True
