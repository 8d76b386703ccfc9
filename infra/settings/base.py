"""What every process of the portal shares. The environment is read by ``infra.settings.env`` alone."""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from csp.constants import NONCE, NONE, SELF
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _

from infra.settings import env

REPOSITORY = Path(__file__).resolve().parents[2]

# -- what the environment says ---------------------------------------------------------------------
CONSILIUM_HOME = env.read_home(os.environ, REPOSITORY / "var" / "portal")
CONSILIUM_MASTER_KEY = env.read_master_key(os.environ)
CONSILIUM_DOOR = env.read_choice(os.environ, "CONSILIUM_DOOR", ("web", "agents"))
CONSILIUM_WEB_ORIGIN = env.read_origin(
    os.environ, "CONSILIUM_WEB_ORIGIN", "http://127.0.0.1:8080", ("http", "https")
)
CONSILIUM_AGENTS_URL = env.read_origin(
    os.environ, "CONSILIUM_AGENTS_URL", "https://localhost:8443", ("https",)
)
CONSILIUM_FLARE_HOST = os.environ.get("CONSILIUM_FLARE_HOST") or "localhost"
CONSILIUM_FLARE_PORT = env.read_port(os.environ, "CONSILIUM_FLARE_PORT", 8102)
CONSILIUM_FEDERATION = os.environ.get("CONSILIUM_FEDERATION") or "consilium"
CONSILIUM_CERTIFICATE_LIFETIME = env.read_lifetime(os.environ, "CONSILIUM_CERTIFICATE_LIFETIME_S")
CONSILIUM_SECOND_FACTOR = env.read_choice(os.environ, "CONSILIUM_SECOND_FACTOR", ("optional", "required"))
CONSILIUM_SIGNER_SOCKET = os.environ.get("CONSILIUM_SIGNER_SOCKET", "")  # empty: the portal runs its own
CONSILIUM_WHEEL = os.environ.get("CONSILIUM_WHEEL", "")
CONSILIUM_CONSTRAINTS = os.environ.get("CONSILIUM_CONSTRAINTS") or str(REPOSITORY / "constraints.txt")
CONSILIUM_PYTHON = os.environ.get("CONSILIUM_PYTHON") or sys.executable

# -- Django ----------------------------------------------------------------------------------------
SECRET_KEY = env.derive_key(CONSILIUM_MASTER_KEY, "django secret key").hex()
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
for _url in (CONSILIUM_WEB_ORIGIN, CONSILIUM_AGENTS_URL):
    ALLOWED_HOSTS.append(urlsplit(_url).hostname or "localhost")
ROOT_URLCONF = "platform_web.agent_urls" if CONSILIUM_DOOR == "agents" else "platform_web.urls"
ASGI_APPLICATION = "platform_web.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": env.read_database(os.environ, CONSILIUM_HOME)}

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "csp",
    "django_otp",
    "platform_web.outbox",
    "platform_web.audit",
    "platform_web.accounts",
    "platform_web.federation",
    "platform_web.training",
    "platform_web.registry",
    "platform_web.clinic",
    "platform_web.pages",
]
WEB_MIDDLEWARE = [
    "platform_web.audit.middleware.FailClosed",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "platform_web.accounts.middleware.AdminContentPolicy",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "platform_web.accounts.middleware.SecondFactorGate",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
AGENT_MIDDLEWARE = [
    "platform_web.audit.middleware.FailClosed",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.locale.LocaleMiddleware",  # by Accept-Language; see api.door for agents that send none
]
MIDDLEWARE = AGENT_MIDDLEWARE if CONSILIUM_DOOR == "agents" else WEB_MIDDLEWARE
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
            ]
        },
    }
]

# -- language, time, static files ------------------------------------------------------------------
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [REPOSITORY / "platform_web" / "locale"]
STATIC_URL = "/static/"
STATIC_ROOT = CONSILIUM_HOME / "static"
WHITENOISE_USE_FINDERS = True  # no collectstatic and no manifest on the demo path (16.8 s measured)

# -- sign-in ---------------------------------------------------------------------------------------
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/accounts/login/"
# One only: Django replaces an older hash at sign-in, without an entry, and its time tells who has one.
PASSWORD_HASHERS = ["platform_web.accounts.hashers.LeanArgon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
AXES_FAILURE_LIMIT = 8
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False
AXES_ENABLE_ADMIN = False  # its pages and actions change rows without an entry
AXES_LOCKOUT_TEMPLATE = "accounts/locked.html"
_HTTPS = CONSILIUM_WEB_ORIGIN.startswith("https://")
CSRF_TRUSTED_ORIGINS = [CONSILIUM_WEB_ORIGIN]
SESSION_COOKIE_NAME = "consilium_session"
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = _HTTPS
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SECURE = _HTTPS
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

# Strict, with a nonce. unfold's admin needs 'unsafe-eval': accounts.middleware relaxes /admin/ only.
# A page that talks to one more address (the clinic page to its site's inference) calls
# platform_web.accounts.content_policy.allow_connect(response, origin) on its own response.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:", "blob:"],
        "connect-src": [SELF],
        "font-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

# -- limits ----------------------------------------------------------------------------------------
CONSILIUM_MAX_BODY_BYTES = 1024 * 1024 if CONSILIUM_DOOR == "agents" else 2_500_000
DATA_UPLOAD_MAX_MEMORY_SIZE = CONSILIUM_MAX_BODY_BYTES
FILE_UPLOAD_MAX_MEMORY_SIZE = CONSILIUM_MAX_BODY_BYTES
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
DATA_UPLOAD_MAX_NUMBER_FILES = 5

# -- promised work ---------------------------------------------------------------------------------
OUTBOX_HANDLERS = {  # name: (function, queue)
    "federation.write_allow_list": ("platform_web.federation.tasks.write_allow_list", "default"),
    "federation.build_kit": ("platform_web.federation.tasks.build_kit", "default"),
    "training.prepare_run": ("platform_web.training.tasks.prepare_run", "default"),
    "training.submit_run": ("platform_web.training.tasks.submit_run", "flare"),
    "registry.collect_run": ("platform_web.registry.tasks.collect_run", "flare"),
    "registry.make_pack": ("platform_web.registry.evidence.issuing.make_pack", "default"),
}
# What higher apps answer for lower ones, by name so that nothing below imports up.
HEARTBEAT_PROVIDERS = {  # (site) -> list[dict]
    "serve": "platform_web.registry.selectors.serve_orders",
    "requests": "platform_web.training.requests.pending_requests",
    "answers": "platform_web.training.requests.answered_questions",
}
AUDIT_SITES = "platform_web.federation.selectors.names_taking_part"  # () -> names; their witnesses count
ARTIFACT_POLICY = "platform_web.registry.selectors.site_may_read"  # (site, sha256) -> bool

CELERY_BROKER_URL, CELERY_BROKER_TRANSPORT_OPTIONS = env.read_broker(os.environ, CONSILIUM_HOME)
CELERY_BROKER_CONNECTION_TIMEOUT = 2
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_PUBLISH_RETRY = False  # a lost ring costs one beat tick: the reconciler rings again
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "celery.beat:Scheduler"  # in memory: the default one keeps a pickle on disk
CELERY_BEAT_MAX_LOOP_INTERVAL = 1


def _every(seconds: float, task: str, queue: str) -> dict[str, object]:
    """A tick that expires before the next but one, so that ticks never pile up behind a slow worker."""
    return {"task": task, "schedule": seconds, "options": {"queue": queue, "expires": 2 * seconds}}


CELERY_BEAT_SCHEDULE = {
    "outbox.reconcile": _every(5.0, "outbox.reconcile", "default"),
    "audit.replay_spool": _every(5.0, "audit.replay_spool", "default"),
    "audit.check_stored": _every(30.0, "audit.check_stored", "default"),
    "federation.prune_nonces": _every(60.0, "federation.prune_nonces", "default"),
    "federation.poll_flare": _every(5.0, "federation.poll_flare", "flare"),
    "training.follow_runs": _every(1.5, "training.follow_runs", "flare"),
}

# -- logs: sentences and names, never bodies, tokens or keys ----------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "filters": {"hide_tokens": {"()": "infra.settings.log_filters.HideTokens"}},
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["hide_tokens"]}
    },
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "nvflare": {"level": "WARNING"},
        "axes": {"level": "WARNING"},
    },
}


def _table(title: str, icon: str, name: str) -> dict[str, object]:
    return {"title": _(title), "icon": icon, "link": reverse_lazy(f"admin:{name}_changelist")}


_TEAL = {  # the portal's accent, in the steps unfold asks for
    "50": "#f0fdfa", "100": "#ccfbf1", "200": "#99f6e4", "300": "#5eead4", "400": "#2dd4bf", "500": "#14a89b",
    "600": "#0f766e", "700": "#115e59", "800": "#134e4a", "900": "#0f2a33", "950": "#0a1d24",
}  # fmt: skip
UNFOLD = {
    "SITE_TITLE": "Consilium",
    "SITE_HEADER": "Consilium",
    "SITE_SUBHEADER": _("Tables behind the portal, to look at"),
    "SITE_ICON": lambda _request: static("pages/mark.svg"),
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda _request: static("pages/mark.svg")}
    ],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": True,
    "SITE_URL": "/",
    "COLORS": {"primary": _TEAL},
    "SIDEBAR": {
        "show_search": True,
        "navigation": [
            {
                "title": _("Portal"),
                "items": [
                    {"title": _("Back to the portal"), "icon": "arrow_back", "link": reverse_lazy("home")}
                ],
            },
            {
                "title": _("Federation"),
                "items": [
                    _table("Sites", "dns", "federation_site"),
                    _table("Kits", "package_2", "federation_kit"),
                    _table("Certificates", "badge", "federation_certificate"),
                    _table("Data sets", "table", "federation_dataset"),
                ],
            },
            {
                "title": _("Learning"),
                "items": [
                    _table("Studies", "menu_book", "training_study"),
                    _table("Runs", "monitoring", "training_run"),
                    _table("Models of sites", "deployed_code", "registry_sitemodel"),
                    _table("Promotions", "verified", "registry_promotion"),
                ],
            },
            {
                "title": _("Portal work"),
                "items": [
                    _table("People", "group", "auth_user"),
                    _table("Promised work", "task_alt", "outbox_task"),
                ],
            },
        ],
    },
}
SILENCED_SYSTEM_CHECKS: list[str] = []
