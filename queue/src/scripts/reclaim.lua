-- Takes over entries that have been held for long, a piece of the pending list each call.
-- KEYS: queue
-- ARGV: group, consumer, least idle ms, cursor, count
-- Returns {next cursor, {{id, fields, deliveries}, …}}. What was deleted meanwhile leaves the pending list.
local claimed = redis.pcall('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], 'COUNT', ARGV[5])
if claimed['err'] then
  if string.find(claimed['err'], 'NOGROUP', 1, true) then
    return {'0-0', {}}
  end
  return claimed
end
local items = {}
for _, entry in ipairs(claimed[2]) do
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], entry[1], entry[1], 1)
  local deliveries = 1
  if held[1] then
    deliveries = held[1][4]
  end
  items[#items + 1] = {entry[1], entry[2], deliveries}
end
return {claimed[1], items}
