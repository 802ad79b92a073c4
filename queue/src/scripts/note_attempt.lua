-- Notes a failed attempt of an entry.
-- KEYS: queue, attempts
-- ARGV: id, worker, error, how many attempts are kept
-- Returns the note as JSON. Of an entry that is gone nothing is kept, since nobody would ever remove it.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local note = {count = 0, first_at_ms = now, log = {}}
-- What somebody else has written there counts as nothing.
local function whole(number)
  return type(number) == 'number' and number >= 0 and number < 2 ^ 53 and number == math.floor(number)
end
local noted = redis.call('HGET', KEYS[2], ARGV[1])
local ok, known = pcall(cjson.decode, noted or '')
if ok and type(known) == 'table' and whole(known['count']) and known['count'] < 2 ^ 31 and whole(known['first_at_ms']) then
  note.count = known['count']
  note.first_at_ms = known['first_at_ms']
  for _, one in ipairs(type(known['log']) == 'table' and known['log'] or {}) do
    if type(one) == 'table' and whole(one['at_ms']) and type(one['worker']) == 'string' and type(one['error']) == 'string' then
      note.log[#note.log + 1] = {at_ms = one['at_ms'], worker = one['worker'], error = one['error']}
    end
  end
end
note.count = note.count + 1
note.log[#note.log + 1] = {at_ms = now, worker = ARGV[2], error = ARGV[3]}
while #note.log > tonumber(ARGV[4]) do
  table.remove(note.log, 1)
end
local text = cjson.encode(note)
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) > 0 then
  -- Removing nothing is a first write that is allowed when memory is short: a full Redis must drain, and a note has at
  -- most some kilobytes.
  redis.call('HDEL', KEYS[2], '')
  redis.call('HSET', KEYS[2], ARGV[1], text)
end
return text
