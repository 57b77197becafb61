-- What wrk sends: requests of one route, each by a random user.
--
--   wrk ... -s wrk.lua URL -- ROUTE ACCOUNTS DOOMED
--
-- ACCOUNTS has a line for each account: its id, its access token, and its tasks as id:0 or id:1,
-- where 1 means completed. DOOMED has a line for each task that `delete` may delete: the number of
-- its owner's line, and its id. The last line of the output is a JSON object.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

local function read_accounts(path)
  local accounts = {}
  for line in io.lines(path) do
    local words = line:gmatch("%S+")
    local account = {path = "/api/" .. words() .. "/tasks", tasks = {}}
    account.headers = "Host: " .. wrk.host .. ":" .. wrk.port .. "\r\nAuthorization: Bearer " .. words()
    for id, completed in line:gmatch(" ([^ :]+):([01])") do
      table.insert(account.tasks, {id = id, completed = completed == "1"})
    end
    table.insert(accounts, account)
  end
  return accounts
end

local function read_doomed(path)
  local doomed = {}
  for line in io.lines(path) do
    local owner, id = line:match("(%d+) (%S+)")
    table.insert(doomed, {owner = tonumber(owner), id = id})
  end
  return doomed
end

local function http(method, account, rest, body)
  local head = method .. " " .. account.path .. rest .. " HTTP/1.1\r\n" .. account.headers
  if not body then
    return head .. "\r\n\r\n"
  end
  return head .. "\r\nContent-Type: application/json\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end

local accounts, doomed
local sent = 0 -- makes every title another one, so that each write changes something

local function any_account()
  return accounts[math.random(#accounts)]
end

local function any_task(account)
  return account.tasks[math.random(#account.tasks)]
end

local routes = {}

function routes.list()
  return http("GET", any_account(), "?limit=20")
end

function routes.read()
  local account = any_account()
  return http("GET", account, "/" .. any_task(account).id)
end

function routes.create()
  local body = '{"title":"Write a report, number ' .. sent .. '","description":"Ask first. Only mornings."}'
  return http("POST", any_account(), "", body)
end

function routes.complete()
  local account = any_account()
  local task = any_task(account)
  task.completed = not task.completed
  return http("PATCH", account, "/" .. task.id .. "/complete", '{"is_completed":' .. tostring(task.completed) .. "}")
end

function routes.put()
  local account = any_account()
  local task = any_task(account)
  task.completed = not task.completed
  local body = '{"title":"Replaced, number ' .. sent .. '","description":"Ask first. Only mornings.","is_completed":'
    .. tostring(task.completed) .. "}"
  return http("PUT", account, "/" .. task.id, body)
end

function routes.patch()
  local account = any_account()
  return http("PATCH", account, "/" .. any_task(account).id, '{"title":"Changed, number ' .. sent .. '"}')
end

function routes.delete()
  local task = doomed[sent]
  if not task then
    return http("DELETE", accounts[1], "/no-tasks-are-left") -- 404, which fails the run
  end
  return http("DELETE", accounts[task.owner], "/" .. task.id)
end

local make_request

function init(args)
  make_request = routes[args[1]]
  accounts = read_accounts(args[2])
  doomed = args[3] and read_doomed(args[3])
  -- Another order each time, but for all servers the same distribution.
  math.randomseed(os.time())
  failures = 0 -- global, because done() runs elsewhere and asks for it by name
end

function request()
  sent = sent + 1
  return make_request()
end

function response(status)
  if status < 200 or status > 299 then
    failures = failures + 1
  end
end

function done(summary, latency)
  local failed = 0
  for _, thread in ipairs(threads) do
    failed = failed + thread:get("failures")
  end
  local errors = summary.errors
  print(string.format(
    '{"requests":%d,"seconds":%f,"failures":%d,"p50_ms":%f,"p95_ms":%f,"p99_ms":%f}',
    summary.requests, summary.duration / 1e6,
    failed + errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3
  ))
end
