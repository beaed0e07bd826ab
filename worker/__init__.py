"""Delivery: RQ ticks run a drain, the drain opens channels to lanes, a channel sends claims and settles them.

The walk of one message: drain.py (which lane) -> channel.py (claim) -> sender.py (route, connection, attempt) ->
routes.py (next hop) -> session.py (connect, TLS, AUTH) -> client.py (one transaction) -> verdict.py (what the replies
mean) -> finisher.py (receipt to the journal, then settle).
"""
