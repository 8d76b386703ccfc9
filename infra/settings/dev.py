"""The demo and a developer's machine: loopback, plain HTTP."""

from infra.settings.base import *
