-- Sets the byte counter right, when the stream is small enough to be counted at once.
-- KEYS: queue, bytes, attempts
-- ARGV: most entries, most bytes to look at
-- Returns {'right'}, {'mended', the counter as it was, and as it is}, or {'large'}.
if redis.call('XLEN', KEYS[1]) > tonumber(ARGV[1]) then
  return {'large'}
end
local bytes, looked, after = 0, 0, '-'
while true do
  local found = redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', 1)
  if #found == 0 then
    break
  end
  local fields, body = found[1][2], nil
  for i = 1, #fields, 2 do
    looked = looked + #fields[i + 1]
    if fields[i] == 'body' and not body then
      body = #fields[i + 1]
    end
  end
  bytes = bytes + (body or 0)
  -- What is still to be looked at is as large as anything may be.
  if looked > tonumber(ARGV[2]) then
    return {'large'}
  end
  after = '(' .. found[1][1]
end
local was = redis.call('GET', KEYS[2]) or '0'
local is = string.format('%.0f', bytes)
if was == is then
  return {'right'}
end
-- Removing nothing is a first write that is allowed when memory is short.
redis.call('HDEL', KEYS[3], '')
redis.call('SET', KEYS[2], is)
return {'mended', was, is}
