"""From sockets to requests and back, under gunicorn.

Clients are slow, many, or hostile; work is quick and bounded. So one loop reads every request whole
before anything works on it, threads answer whole requests, and a client that dawdles costs a socket
and never a thread. HTTP is parsed by gunicorn's own parser; the application is the same Flask
application that any WSGI server can run.
"""
