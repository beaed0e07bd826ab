"""The development mailbox: a real SMTP server that keeps every message on disk before its 250, and a view of them."""
