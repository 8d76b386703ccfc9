"""A person at mouse and keyboard, at a person's pace: clicks are counted, time at work is added up."""

import os
import pty
import select
import subprocess
import time
from pathlib import Path

from playwright.sync_api import Page

KEY_S, CLICK_S, READ_S = 0.15, 1.0, 10.0  # 80 words a minute with two fingers; a glance before each click


class Hands:
    """Everything the person does on pages goes through here."""

    def __init__(self) -> None:
        self.clicks = 0
        self.busy_s = 0.0

    def click(self, page: Page, selector: str) -> None:
        began = time.monotonic()
        time.sleep(CLICK_S)
        page.click(selector)
        self.clicks += 1
        self.busy_s += time.monotonic() - began

    def type(self, page: Page, selector: str, text: str) -> None:
        began = time.monotonic()
        page.focus(selector)
        page.keyboard.type(text, delay=1000 * KEY_S)
        self.busy_s += time.monotonic() - began

    def read(self) -> None:
        """A page or a screen is read; the sheet behind the link takes the two minutes it says beforehand."""
        time.sleep(READ_S)
        self.busy_s += READ_S


class Terminal:
    """An interactive shell of the operator in ``folder``; what is pasted and typed into it is real."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._screen, own_end = pty.openpty()
        self.process = subprocess.Popen(
            ["bash", "--norc", "-i"], cwd=folder, env=environment, stdin=own_end, stdout=own_end,
            stderr=own_end, start_new_session=True,
        )  # fmt: skip
        os.close(own_end)
        self.shown = ""

    def paste(self, hands: Hands, line: str) -> None:
        began = time.monotonic()
        time.sleep(CLICK_S)
        os.write(self._screen, line.encode() + b"\n")
        hands.busy_s += time.monotonic() - began

    def type(self, hands: Hands, text: str) -> None:
        began = time.monotonic()
        for key in f"{text}\n":
            time.sleep(KEY_S)
            os.write(self._screen, key.encode())
        hands.busy_s += time.monotonic() - began

    def wait_for(self, words: str, limit_s: float) -> None:
        """Until ``words`` stand on the screen. Raises TimeoutError with the screen's end."""
        deadline = time.monotonic() + limit_s
        while words not in self.shown:
            self.look(0.2)
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {limit_s:.0f} s for {words!r}; the screen: {self.shown[-800:]}")

    def look(self, wait_s: float) -> None:
        """Take in what is shown; a screen that nobody reads would stop the program behind it."""
        while select.select([self._screen], [], [], wait_s)[0]:
            self.shown += os.read(self._screen, 65_536).decode(errors="replace")
            wait_s = 0

    def close(self) -> None:
        """Ctrl-C, as a person ends it; then the shell."""
        os.write(self._screen, b"\x03")
        try:
            self.wait_for("nothing of this site is running", 25)
        finally:
            os.write(self._screen, b"\nexit\n")
            self.process.wait(10)
            os.close(self._screen)
