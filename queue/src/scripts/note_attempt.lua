-- Notes a failed attempt of an entry.
-- KEYS: queue, attempts
-- ARGV: id, worker, error, how many attempts are kept
-- Returns the note as JSON. Of an entry that is gone nothing is kept, since nobody would ever remove it.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local note = {count = 0, first_at_ms = now, log = {}}
local noted = redis.call('HGET', KEYS[2], ARGV[1])
if noted then
  local ok, known = pcall(cjson.decode, noted)
  if ok and type(known) == 'table' then
    note.count = tonumber(known['count']) or 0
    note.first_at_ms = tonumber(known['first_at_ms']) or now
    if type(known['log']) == 'table' then
      note.log = known['log']
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
