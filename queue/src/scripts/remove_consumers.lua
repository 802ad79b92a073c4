-- Removes consumers that hold nothing and have been idle for long.
-- KEYS: queue
-- ARGV: group, least idle ms, the only consumer to look at ('' for all)
-- Returns how many. One script, since XGROUP DELCONSUMER throws away what has just become pending.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers['err'] then
  if string.find(consumers['err'], 'NOGROUP', 1, true) then
    return 0
  end
  return consumers
end
local removed = 0
for _, consumer in ipairs(consumers) do
  local about = {}
  for i = 1, #consumer, 2 do
    about[consumer[i]] = consumer[i + 1]
  end
  if about['pending'] == 0 and about['idle'] >= tonumber(ARGV[2])
    and (ARGV[3] == '' or about['name'] == ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], about['name'])
    removed = removed + 1
  end
end
return removed
