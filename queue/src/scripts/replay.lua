-- Puts a dead letter back into the queue with its own fields only.
-- KEYS: queue, dead, bytes
-- ARGV: id among the dead letters
-- Returns the new ID, or nil when there is no such dead letter.
local found = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])
if #found == 0 then
  return false
end
local fields = found[1][2]
if fields[1] ~= 'dead_entry' or #fields < 14 then
  return redis.error_reply('ERR the entry is no dead letter of logweir')
end
local body
for i = 13, #fields, 2 do
  if fields[i] == 'body' and not body then
    body = #fields[i + 1]
  end
end
local id = redis.call('XADD', KEYS[1], '*', unpack(fields, 13))
redis.call('INCRBY', KEYS[3], body or 0)
redis.call('XDEL', KEYS[2], ARGV[1])
return id
