-- Adds one batch, unless the queue or the store of idempotency keys is full, or the key is known.
-- KEYS: queue, bytes, idem, idem:answers, idem:bytes
-- ARGV: most entries, most bytes, body length,
--       key ('' without one), its window in ms, most keys, most bytes of answers, its answer,
--       field, value, …
-- Returns {'added', id, entries, bytes}, {'full', entries, bytes}, {'repeated', answer} or {'keys_full'}.
-- Nothing is written before XADD: Redis refuses for want of memory only at a script's first write.
local member = ARGV[4]
local now
if member ~= '' then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  local expiry = redis.call('ZSCORE', KEYS[3], member)
  if expiry and tonumber(expiry) > now then
    return {'repeated', redis.call('HGET', KEYS[4], member) or ''}
  end
end

local entries = redis.call('XLEN', KEYS[1])
local bytes = counter(KEYS[2])
if entries >= tonumber(ARGV[1]) or bytes >= tonumber(ARGV[2]) then
  return {'full', entries, bytes}
end
local answers = 0
local old = {}
if member ~= '' then
  local most = tonumber(ARGV[6])
  if redis.call('ZCARD', KEYS[3]) >= most
    and redis.call('ZCOUNT', KEYS[3], string.format('(%.0f', now), '+inf') >= most then
    return {'keys_full'}
  end
  answers = counter(KEYS[5])
  if answers >= tonumber(ARGV[7]) then
    return {'keys_full'}
  end
  answers = answers + #ARGV[8] - redis.call('HSTRLEN', KEYS[4], member)
  -- A piece only, so that a script stays short; since each new key removes up to 64 old ones, the store stays
  -- about as small as the limit says. What is left is forgotten by forget_keys.
  old = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', now), 'LIMIT', 0, 64)
  for _, one in ipairs(old) do
    if one ~= member then
      answers = answers - redis.call('HSTRLEN', KEYS[4], one)
    end
  end
end

-- From here on nothing may fail: what was added and is not said to be would be added again.
local id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 9))
bytes = bytes + tonumber(ARGV[3])
redis.call('SET', KEYS[2], string.format('%.0f', bytes))
if member ~= '' then
  if #old > 0 then
    redis.call('ZREM', KEYS[3], unpack(old))
    redis.call('HDEL', KEYS[4], unpack(old))
  end
  redis.call('ZADD', KEYS[3], string.format('%.0f', now + tonumber(ARGV[5])), member)
  redis.call('SET', KEYS[5], string.format('%.0f', math.max(0, answers)))
  redis.call('HSET', KEYS[4], member, ARGV[8])
end
return {'added', id, entries + 1, bytes}
