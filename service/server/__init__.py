"""From sockets to requests and back: gunicorn's workers.

Clients are slow, many or hostile; work is quick and bounded. The asyncio worker reads each request
whole before anything works on it, so a slow client costs a socket and never a thread. The parser is
httptools, which is llhttp, the parser of Node.js. Flask answers everything but single predictions.
"""
