-- Moves an entry to the dead letters, and acknowledges it, unless the dead letters are full.
-- KEYS: queue, dead, bytes, attempts, dead:bytes
-- ARGV: group, id, worker, error, most letters, most bytes
-- Returns {'dead', id among the dead letters}, {'gone'} when the entry is, or {'full', letters, bytes}.
-- What is known of the failure are the first seven fields, always in this order, and the entry's own fields follow
-- as they are: told apart by their place, they can't collide. A letter's bytes are all its names and values.
local found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
if #found == 0 then
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
  redis.call('HDEL', KEYS[4], ARGV[2])
  return {'gone'}
end
local fields = found[1][2]
local bytes = counter(KEYS[3])

-- A letter that somebody removed by hand leaves its bytes behind: no letters at all set that right.
local letters = redis.call('XLEN', KEYS[2])
local held = letters > 0 and counter(KEYS[5]) or 0
if letters >= tonumber(ARGV[5]) or held >= tonumber(ARGV[6]) then
  return {'full', letters, held}
end

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local attempts, first, log = '0', now, '[]'
local noted = redis.call('HGET', KEYS[4], ARGV[2])
if noted then
  local ok, known = pcall(cjson.decode, noted)
  if ok and type(known) == 'table' then
    attempts = string.format('%.0f', tonumber(known['count']) or 0)
    first = string.format('%.0f', tonumber(known['first_at_ms']) or tonumber(now))
    if type(known['log']) == 'table' and #known['log'] > 0 then
      local fits, text = pcall(cjson.encode, known['log'])
      log = fits and text or log
    end
  end
end

local letter = {
  'dead_entry', ARGV[2], 'dead_error', ARGV[4], 'dead_attempts', attempts, 'dead_worker', ARGV[3],
  'dead_first_seen', first, 'dead_at', now, 'dead_log', log,
}
local body
for i = 1, #fields, 2 do
  letter[#letter + 1] = fields[i]
  letter[#letter + 1] = fields[i + 1]
  if fields[i] == 'body' and not body then
    body = #fields[i + 1]
  end
end
for _, part in ipairs(letter) do
  held = held + #part
end
-- Removing nothing is a first write that is allowed when memory is short: a full Redis must drain, and what is added
-- here leaves the queue below.
redis.call('HDEL', KEYS[4], '')
local id = redis.call('XADD', KEYS[2], '*', unpack(letter))
redis.call('SET', KEYS[5], string.format('%.0f', held))
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
redis.call('HDEL', KEYS[4], ARGV[2])
bytes = bytes - (body or 0)
if bytes < 0 or redis.call('XLEN', KEYS[1]) == 0 then
  bytes = 0
end
redis.call('SET', KEYS[3], string.format('%.0f', bytes))
return {'dead', id}
