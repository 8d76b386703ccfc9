"""An institution: HTTPS behind a reverse proxy, every cookie secure."""

import os

from django.core.exceptions import ImproperlyConfigured

from infra.settings import env
from infra.settings.base import *

if not CONSILIUM_WEB_ORIGIN.startswith("https://"):
    raise ImproperlyConfigured("CONSILIUM_WEB_ORIGIN must begin with https:// in production.")

# of administrators and auditors; "optional" is printed as a failing control in every evidence pack
CONSILIUM_SECOND_FACTOR = env.read_choice(os.environ, "CONSILIUM_SECOND_FACTOR", ("required", "optional"))
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = CONSILIUM_DOOR == "web"
SECURE_HSTS_SECONDS = 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
