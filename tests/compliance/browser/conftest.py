"""The same Chromium, and the same reason to skip, as for the portal's pages."""

from tests.platform_web.browser.conftest import chromium, pytest_collection_modifyitems

__all__ = ["chromium", "pytest_collection_modifyitems"]
