-- Keeps the lease of those entries that a consumer still holds.
-- KEYS: queue
-- ARGV: group, consumer, id, …
-- Returns how many these are. JUSTID, so that it doesn't count as a delivery.
local kept = 0
for i = 3, #ARGV do
  local held = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  if held['err'] then
    if string.find(held['err'], 'NOGROUP', 1, true) then
      return 0
    end
    return held
  end
  if held[1] then
    kept = kept + #redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
  end
end
return kept
