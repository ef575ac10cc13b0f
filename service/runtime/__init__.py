"""The process around the service: machine, sizes, shared memory, metrics and logs.

Nothing here knows a request: what is counted or logged comes as a ``RequestRecord``.
"""
