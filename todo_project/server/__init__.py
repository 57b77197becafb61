"""The HTTP/1.1 server of `manage.py serve`: it runs one WSGI application in several processes.

    supervisor.py   the parent process: starts workers, replaces the dead, drains and stops
    worker.py       one worker: threads that read, work and answer, and what clients may hold
    application.py  what the application answers to a request
    messages.py     bytes to requests and answers to bytes; no sockets

HTTP is parsed by llhttp (the package httptools). The rest is hand-written, because no server for
WSGI lets the application see which headers a client wrote with an underscore, admits 200 headers,
tells a body that broke off from a whole one, and ends whoever doesn't read, at this price: see
docs/adr/0010-server.md. It knows nothing of this project. Linux only, for epoll.
"""
