-- Removes a dead letter for good.
-- KEYS: dead, dead:bytes
-- ARGV: id among the dead letters
-- Returns 1, or 0 when there is no such dead letter.
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then
  return 0
end
local held = counter(KEYS[2])
for _, part in ipairs(found[1][2]) do
  held = held - #part
end
-- The first write, since it is allowed when memory is short.
redis.call('XDEL', KEYS[1], ARGV[1])
if held < 0 or redis.call('XLEN', KEYS[1]) == 0 then
  held = 0
end
redis.call('SET', KEYS[2], string.format('%.0f', held))
return 1
