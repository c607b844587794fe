-- Holds what finds no server, inside HAProxy: neither the wait nor a byte depends on the daemon,
-- which is only told that somebody waits. `holding.py` says how the parts fit together.
--
-- The daemon's socket is in the environment: `lua-load` passes no arguments in HAProxy 2.6.
local call_socket = os.getenv("VMORCH_CALL_SOCKET")

local TELL_MS = 10
local TELL_AGAIN_SECONDS = 1

local called = {} -- backend -> true: somebody waits, which the daemon is to be told
local told = {} -- backend -> when it was told last

local function seconds_now()
  local now = core.now()
  return now.sec + now.usec / 1000000
end

-- lua.vmorch_hold BACKEND SECONDS PAUSE_MS: until there is a server, but no longer than that, looking
-- for one again after each pause. A worker that is leaving hears of no new server, and counts none
-- at all.
core.register_action("vmorch_hold", { "http-req", "tcp-req" }, function(txn, backend, seconds, pause_ms)
  local last = seconds_now() + tonumber(seconds)
  while txn.f:nbsrv(backend) == 0 and txn.f:stopping() == 0 and seconds_now() < last do
    called[backend] = true
    -- The more wait, the less often each looks: all together take a bounded part of a core.
    core.msleep(math.max(tonumber(pause_ms), txn.f:be_conn(backend) // 10))
  end
end, 3)

-- A daemon that was away hears it from those who still wait.
local function tell(backend)
  local connection = core.tcp()
  connection:settimeout(1)
  if connection:connect("unix@" .. call_socket) then
    connection:send(backend .. "\n")
  end
  connection:close()
end

core.register_task(function()
  while true do
    core.msleep(TELL_MS)
    for backend in pairs(called) do
      called[backend] = nil
      local now = seconds_now()
      if now > (told[backend] or 0) + TELL_AGAIN_SECONDS then
        told[backend] = now
        tell(backend)
      end
    end
  end
end)
