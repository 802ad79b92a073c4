-- Puts a dead letter back into the queue with its own fields only.
-- KEYS: queue, dead, bytes, dead:bytes
-- ARGV: id among the dead letters
-- Returns the new ID, or nil when there is no such dead letter.
local found = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])
if #found == 0 then
  return false
end
local fields = found[1][2]
if fields[1] ~= 'dead_entry' or fields[13] ~= 'dead_log' or #fields < 16 then
  return redis.error_reply('ERR the entry is no dead letter of logweir')
end
local body
local held = counter(KEYS[4])
for i = 1, #fields, 2 do
  held = held - #fields[i] - #fields[i + 1]
  if i > 14 and fields[i] == 'body' and not body then
    body = #fields[i + 1]
  end
end
local bytes = counter(KEYS[3]) + (body or 0)
local id = redis.call('XADD', KEYS[1], '*', unpack(fields, 15))
redis.call('SET', KEYS[3], string.format('%.0f', bytes))
redis.call('XDEL', KEYS[2], ARGV[1])
if held < 0 or redis.call('XLEN', KEYS[2]) == 0 then
  held = 0
end
redis.call('SET', KEYS[4], string.format('%.0f', held))
return id
