"""The HTTP face of rota: the bot protocol (plain ASGI), REST for operators and clients, and the pages."""
