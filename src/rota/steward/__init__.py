"""The background duties of rota: each module is one. One leader at a time does them, any number stand by."""
