"""Django's SQLite backend with a bound on waiting for the write lock inside a request."""
