"""Clients that people have already, unmodified, against a real server: `make test-clients`."""
