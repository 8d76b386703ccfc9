"""Everything that knows Django. The Celery application is loaded here so that services ring our broker."""

from platform_web.celery import app as celery_app

__all__ = ["celery_app"]
