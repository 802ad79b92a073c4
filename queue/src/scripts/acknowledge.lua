-- Removes finished entries. Works without group or stream too.
-- KEYS: queue, bytes, attempts
-- ARGV: group, then id, body length, …
-- Returns how many were still there.
-- XACK is the first write, since it is allowed when memory is short: a full Redis must drain.
local bytes = counter(KEYS[2])
local removed = 0
-- Of another type, these must refuse before anything is written, not between XACK and XDEL.
redis.call('XLEN', KEYS[1])
redis.call('HGET', KEYS[3], '')
for i = 2, #ARGV, 2 do
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
  if redis.call('XDEL', KEYS[1], ARGV[i]) == 1 then
    removed = removed + 1
    bytes = bytes - tonumber(ARGV[i + 1])
  end
  redis.call('HDEL', KEYS[3], ARGV[i])
end
if removed > 0 then
  -- An entry that somebody removed by hand leaves its bytes behind: an empty queue sets that right.
  if bytes < 0 or redis.call('XLEN', KEYS[1]) == 0 then
    bytes = 0
  end
  redis.call('SET', KEYS[2], string.format('%.0f', bytes))
end
return removed
