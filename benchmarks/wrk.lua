-- What wrk sends: requests of one route, each by a random user.
--
--   wrk ... -s wrk.lua URL -- ROUTE ACCOUNTS DOOMED
--
-- ACCOUNTS has a line for each account: its id, its access token, the ids of its lists, and its tasks
-- as id:0 or id:1, where 1 means completed. DOOMED has a line for each task that `delete` may delete: the number of
-- its owner's line, and its id. The last line of the output is a JSON object.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

local function read_accounts(path)
  local accounts = {}
  for line in io.lines(path) do
    local words = line:gmatch("%S+")
    local account = {path = "/api/" .. words() .. "/tasks", lists = {}, tasks = {}}
    account.headers = "Host: " .. wrk.host .. ":" .. wrk.port .. "\r\nAuthorization: Bearer " .. words()
    for word in words do
      local id, completed = word:match("(%S+):([01])")
      if id then
        table.insert(account.tasks, {id = id, completed = completed == "1"})
      else
        table.insert(account.lists, word)
      end
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
local sent = 0 -- makes every title another one, and days go on, so that a write changes something

local priorities = {"none", "low", "medium", "high", "urgent"}

local function any_priority()
  return priorities[sent % 5 + 1]
end

-- Within a year from the first of these days, which no seeded task starts after.
local function day(number)
  return os.date("!%Y-%m-%d", os.time() + (60 + number % 365) * 86400)
end

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
  local labels = {[0] = "", '"work"', '"work","letters"'}
  local description = sent % 3 == 0 and ',"description":"Ask first. Only mornings."' or ""
  local body = string.format(
    '{"title":"Write a report, number %d","due_on":"%s","priority":"%s","labels":[%s]%s}',
    sent, day(sent), any_priority(), labels[sent % 3], description
  )
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
  local list = account.lists[sent % #account.lists + 1]
  local body = string.format(
    '{"title":"Replaced, number %d","description":"Ask first. Only mornings.","is_completed":%s,'
      .. '"priority":"%s","labels":["work","letters"],"due_on":"%s","due_time":"18:30",'
      .. '"time_zone":"Europe/Berlin","start_on":"%s","list_id":%s}',
    sent, tostring(task.completed), any_priority(), day(sent), day(0), list and '"' .. list .. '"' or "null"
  )
  return http("PUT", account, "/" .. task.id, body)
end

-- The title, the day or the priority, each as often.
function routes.patch()
  local account = any_account()
  local body
  if sent % 3 == 0 then
    body = '{"title":"Changed, number ' .. sent .. '"}'
  elseif sent % 3 == 1 then
    body = '{"due_on":"' .. day(sent) .. '"}'
  else
    body = '{"priority":"' .. any_priority() .. '"}'
  end
  return http("PATCH", account, "/" .. any_task(account).id, body)
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
