"""The walk that a program of each generated client takes through a running service.

`SEEN` is what it must see on the way, a line for each step: the answer's status, and what the
client's types give it of the answer. The programs, `walk.ts` and `walk.py` in the folders beside,
print these lines.
"""

SEEN = [
    "register: 201 walker@example.com",
    "sign in: 200 900",
    # Once it is past its time the client refreshes, and goes on with the new pair.
    "past token: 401 TOKEN_EXPIRED",
    "refresh: 200 another",
    "create: 201 Buy milk high 2036-12-31",
    # As after an answer that was lost.
    "retry with the key: 201 the same task",
    "key of another request: 422 IDEMPOTENCY_KEY_REUSED",
    "all pages: 200 7 tasks, 3 pages",
    "filters: 200 Buy milk",
    "complete: 200 done",
    # Two devices that have seen the same: the second is told, and with what.
    "conflict: 412 PRECONDITION_FAILED Buy oat milk",
    "with the new tag: 200 Buy soy milk",
    "changes: 200 7 and no more",
    "changes since: 200 task deleted",
    "blank title: 400 VALIDATION_ERROR blank",
    "deleted task: 404 NOT_FOUND",
    "somebody else's: 403 PERMISSION_DENIED",
    "too many: 429 RATE_LIMITED wait",
    "no token: 401 NOT_AUTHENTICATED",
]
