"""Faults injected for real into a running stack, and an account of every mail: `make faults`.

catalogue.py  the table of drills: what is broken, under which load, which figures are asked
drill.py      one drill: an own stack, open-loop load, the trouble, the account
troubles/     what is broken and when, one file per family
machines.py   two machines, one of which loses its disk
power/        power cuts: a file system that is shut down under the stores
checker.py    what was lost, duplicated, altered, late; figures.py holds it against what was asked
"""
