"""`nightmail replay`: incidents of others, made to happen to a stack of our own, and the figures side by side."""
