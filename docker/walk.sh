#!/usr/bin/env bash
# Walks through a running service as a client behind its proxy, and ends at the first answer that is
# not what it has to be:
#
#   docker/walk.sh http://127.0.0.1:8000
set -euo pipefail

base=${1:?usage: docker/walk.sh http://127.0.0.1:8000}
# What the proxy adds.
proxied=(--header 'X-Forwarded-Proto: https' --header 'X-Forwarded-For: 192.0.2.1')
signed_in=()

# expect STATUS METHOD PATH [BODY]; the answer's body is in $answer.
expect() {
    local body=()
    if [ $# -gt 3 ]; then
        body=(--header 'Content-Type: application/json' --data "$4")
    fi
    answer=$(curl --silent --show-error --max-time 30 --write-out '\n%{http_code}' --request "$2" \
        "${proxied[@]}" "${signed_in[@]}" "${body[@]}" "$base$3")
    local status=${answer##*$'\n'}
    answer=${answer%$'\n'*}
    if [ "$status" != "$1" ]; then
        echo "$2 $3: $status, and not $1: $answer" >&2
        exit 1
    fi
    echo "$2 $3: $status"
}

# has TEXT: the last answer has it.
has() {
    if [[ $answer != *"$1"* ]]; then
        echo "not in the answer: $1: $answer" >&2
        exit 1
    fi
}

# value NAME, of the last answer.
value() {
    sed -E 's/.*"'"$1"'":"([^"]+)".*/\1/' <<<"$answer"
}

expect 200 GET /livez
expect 200 GET /readyz
for document in /api/docs /api/redoc /api/schema /api/contract /favicon.ico /admin/login/; do
    expect 200 GET "$document"
done
expect 401 GET /api/me/tasks

account='{"email": "walk-'$(date +%s)-$RANDOM'@example.com", "password": "blue bicycle at noon"}'
expect 201 POST /api/auth/register "$account"
id=$(value id)
expect 200 POST /api/auth/token "$account"
signed_in=(--header "Authorization: Bearer $(value access)")
expect 200 GET /api/auth/sessions
has '"address":"192.0.2.1"'

expect 201 POST /api/me/tasks '{"title": "Buy milk", "due_on": "2036-01-06", "recurrence": "FREQ=WEEKLY"}'
task=$(value id)
expect 200 PATCH "/api/$id/tasks/$task/complete"
expect 200 GET '/api/me/tasks?is_completed=false'
has '"due_on":"2036-01-13"'
expect 200 GET /api/me/changes
expect 403 GET /api/00000000-0000-7000-8000-000000000000/tasks
expect 204 DELETE "/api/me/tasks/$task"
expect 404 GET "/api/me/tasks/$task"

# Without the proxy's word that the client spoke TLS.
proxied=()
expect 301 GET /api/me/tasks
echo 'All is as it has to be.'
