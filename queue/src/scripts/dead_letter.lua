-- Moves an entry to the dead letters, and acknowledges it.
-- KEYS: queue, dead, bytes, attempts
-- ARGV: group, id, worker, error
-- Returns the ID among the dead letters, or nil when the entry is gone.
-- What is known of the failure are the first six fields, always in this order, and the entry's own fields follow
-- as they are: told apart by their place, they can't collide.
local found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
if #found == 0 then
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
  redis.call('HDEL', KEYS[4], ARGV[2])
  return false
end
local fields = found[1][2]

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local attempts, first = '0', now
local noted = redis.call('HGET', KEYS[4], ARGV[2])
if noted then
  local ok, known = pcall(cjson.decode, noted)
  if ok and type(known) == 'table' then
    attempts = string.format('%.0f', tonumber(known['count']) or 0)
    first = string.format('%.0f', tonumber(known['first_at_ms']) or tonumber(now))
  end
end

local letter = {
  'dead_entry', ARGV[2], 'dead_error', ARGV[4], 'dead_attempts', attempts, 'dead_worker', ARGV[3],
  'dead_first_seen', first, 'dead_at', now,
}
local body
for i = 1, #fields, 2 do
  letter[#letter + 1] = fields[i]
  letter[#letter + 1] = fields[i + 1]
  if fields[i] == 'body' and not body then
    body = #fields[i + 1]
  end
end
-- Removing nothing is a first write that is allowed when memory is short: a full Redis must drain, and what is added
-- here leaves the queue below.
redis.call('HDEL', KEYS[4], '')
local id = redis.call('XADD', KEYS[2], '*', unpack(letter))
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
redis.call('HDEL', KEYS[4], ARGV[2])
local bytes = tonumber(redis.call('GET', KEYS[3]) or '0') - (body or 0)
if bytes < 0 or redis.call('XLEN', KEYS[1]) == 0 then
  bytes = 0
end
redis.call('SET', KEYS[3], string.format('%.0f', bytes))
return id
