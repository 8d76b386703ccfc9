import time

import pytest

from tests.platform_web.phones import enrol


class Clock:
    """What the portal and every phone read, standing still until it is moved."""

    def __init__(self) -> None:
        self.now = float(int(time.time()) // 30 * 30 + 15)

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float = 30) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("django_otp.oath.time", clock)
    return clock


@pytest.fixture
def required(settings):
    settings.CONSILIUM_SECOND_FACTOR = "required"


@pytest.fixture
def phone(clock, ann):
    """Ann's, enrolled a step ago."""
    phone, phone.codes = enrol(ann)  # the recovery codes lie beside it
    clock.forward()
    return phone
