"""What must be kept: accounts, profiles, servers, keys, pushed data and history, in PostgreSQL.

Each module is one noun; each function takes a transaction of `Ledger.begin`. Nothing here knows live state.
"""
