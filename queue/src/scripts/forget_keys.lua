-- Forgets idempotency keys whose time is over, a piece each call, so that a script stays short.
-- KEYS: idem, idem:answers, idem:bytes
-- ARGV: most of them
-- Returns how many. Only what is allowed when memory is short: this gives some back.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
if #old == 0 then
  return 0
end
local answers, bytes = counter(KEYS[3]), 0
for _, member in ipairs(old) do
  bytes = bytes + redis.call('HSTRLEN', KEYS[2], member)
end
redis.call('ZREM', KEYS[1], unpack(old))
redis.call('HDEL', KEYS[2], unpack(old))
if redis.call('ZCARD', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[3])
else
  redis.call('SET', KEYS[3], string.format('%.0f', math.max(0, answers - bytes)))
end
return #old
