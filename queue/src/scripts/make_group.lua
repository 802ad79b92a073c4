-- Makes the group, and the stream if need be, at 0, so that nothing that waits is passed over.
-- KEYS: queue, attempts
-- ARGV: group
-- Returns 1, or 0 when it is there already.
-- Removing nothing is a first write that is allowed when memory is short: a full Redis must drain, also by its first
-- worker.
redis.call('HDEL', KEYS[2], '')
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if made['err'] then
  if string.find(made['err'], 'BUSYGROUP', 1, true) then
    return 0
  end
  return made
end
return 1
