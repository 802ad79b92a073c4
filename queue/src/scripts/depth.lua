-- How full the queue is; works when nothing exists yet.
-- KEYS: queue, bytes, dead, dead:bytes
-- ARGV: group
-- Returns {entries, bytes, pending, age of the oldest in ms (-1 without one), dead letters, their bytes}.
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
if pending['err'] then
  if not string.find(pending['err'], 'NOGROUP', 1, true) then
    return pending
  end
  pending = {0}
end
local age = -1
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
if #first > 0 then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  age = math.max(0, now - tonumber(string.match(first[1][1], '^(%d+)')))
end
return {
  redis.call('XLEN', KEYS[1]), counter(KEYS[2]), pending[1], age,
  redis.call('XLEN', KEYS[3]), counter(KEYS[4]),
}
