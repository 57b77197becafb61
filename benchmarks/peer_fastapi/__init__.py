"""The peer: the same task routes on FastAPI, SQLModel and asyncpg, as their documentation has it.

The same here as in the service: database and schema, paths, bodies and answers of the routes that
are measured, all fields of a task and their validation, the default order and keyset pages, the
request id in header and `meta`, the check of the JWT's signature, issuer, audience, type and time.
The service remembers the tokens that it has verified; this verifies one each time, as its
documentation has it.

Less than in the service: a token is trusted without a look at its session, so that a logout takes
effect when the token expires; no limits of writes, no access log, no filters and other orders,
cursors are not signed, errors have FastAPI's own shape, no watchdog, no retry, no admin. It isn't
asked of texts whether they can be seen, nor how many marks follow one another; read-only fields are
refused. A row's version is a number of its own, and its tag that version: no clocks, conditions,
keys of retries or log of changes, and what is deleted can't be restored.

Answers are declared as response models, which pydantic writes as JSON in Rust: FastAPI deprecates
its ORJSONResponse in favour of that.

    main.py      the application and its routes
    models.py    the table, and what goes in and out
    security.py  who calls
    database.py  the engine and its sessions
"""
