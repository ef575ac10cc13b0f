"""What the HTTP API is, as a machine reads it (OpenAPI 3.1), and as a page for people."""
