-- Puts a dead letter that was exported back among the dead letters, unless others came since the caller looked.
-- KEYS: dead, dead:bytes
-- ARGV: the last ID that the stream had given when the caller looked ('0-0' before any), field, value, …
-- Returns {'restored', its new ID}, or {'moved', the last ID now}: look at what came, and ask again.
local last = '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local about = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then
      last = about[i + 1]
    end
  end
end
if last ~= ARGV[1] then
  return {'moved', last}
end
local held = redis.call('XLEN', KEYS[1]) > 0 and counter(KEYS[2]) or 0
for i = 2, #ARGV do
  held = held + #ARGV[i]
end
local id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
redis.call('SET', KEYS[2], string.format('%.0f', held))
return {'restored', id}
