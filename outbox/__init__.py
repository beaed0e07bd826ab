"""The durable core: what was promised, what is still to be done. Knows Redis and the local disk, never the database."""
