"""SMTP submission: listener, session, content, and the one hop into the outbox. Imports no HTTP client."""
