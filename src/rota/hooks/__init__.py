"""What leaves this house by webhook: which addresses it may go to, how it is signed, and how it is sent.

Called by the steward, which delivers records, and by REST, which checks an address and sends a test. Knows nothing of
the stores.
"""
