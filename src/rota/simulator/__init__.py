"""Crowds of protocol-true bots in one process, the faults that befall them, the checks of rota's promises.

`rota simulate` and `rota demo` call it. It knows the wire alone: nothing here imports the server, so that
what it finds out about rota is found from outside.
"""
