# The service, as docs/operations.md runs it in a container: `docker build --tag todo .`
#
#   docker run --read-only --tmpfs /tmp --env-file production.env --publish 127.0.0.1:8000:8000 todo
#   docker run --rm --env-file production.env todo migrate
#
# Arguments are those of manage.py. Nothing is written but in /tmp and /dev/shm.

FROM python:3.13-slim AS packages

RUN python -m venv /venv
COPY requirements.txt /
# Wheels alone: there is no compiler in the image, and nothing of a package runs while it is built.
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
    --only-binary :all: --requirement /requirements.txt


FROM python:3.13-slim

ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1

WORKDIR /srv/todo
COPY --from=packages /venv /venv
COPY manage.py ./
COPY todo_project todo_project
COPY accounts accounts
COPY tasks tasks
COPY docker/health.py docker/health.py
# `/api/contract` answers it.
COPY docs/contract.md docs/contract.md
# What the file system, once it is read-only, can't be given any more.
RUN python -m compileall -q .

# A number, which Kubernetes' runAsNonRoot can check; it needs no name and no home, and owns nothing.
USER 10001:10001

# As PORT has it by default.
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=6 \
    CMD ["python", "-IS", "docker/health.py"]

# No shell between: SIGTERM reaches the server, which drains.
ENTRYPOINT ["python", "manage.py"]
CMD ["serve"]
