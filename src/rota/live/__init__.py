"""What is true now: bots, bindings, the queue and counters, in Redis or Valkey.

Everything here may be lost at any time and is changed by Lua scripts alone, one per verb. Nothing here knows the
ledger.
"""
