"""Proves rota's promises on a real installation: one fault after another, judged from outside.

`rota chaos` calls it. It starts everything as processes of its own (Valkey, PostgreSQL, web workers, stewards),
lets simulated bots work there, breaks something, and reads what came of it from what every bot did and from the
ledger over REST. It knows the wire alone: nothing here asks rota's own code whether all is well.
"""
