"""The main database: what happened. Only a view of the events; nothing on the way of a message reads or writes it.

Recorder (its own process) writes it, the control API reads it by `history.queries`. Wired in nightmail/roles.py.
"""
