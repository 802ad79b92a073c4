-- What an idempotency key was answered.
-- KEYS: idem, idem:answers
-- ARGV: key
-- Returns its answer, or nothing when it isn't known, or not any more.
local expiry = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not expiry then
  return false
end
local time = redis.call('TIME')
if tonumber(expiry) <= time[1] * 1000 + math.floor(time[2] / 1000) then
  return false
end
return redis.call('HGET', KEYS[2], ARGV[1]) or ''
