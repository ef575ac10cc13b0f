"""One prediction's life, whatever carries it: no Flask, no gunicorn, no sockets."""
