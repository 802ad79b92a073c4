-- Takes the last noted attempt of an entry back.
-- KEYS: attempts
-- ARGV: id
-- Returns how many are left.
local noted = redis.call('HGET', KEYS[1], ARGV[1])
if not noted then
  return 0
end
local ok, note = pcall(cjson.decode, noted)
local count = 0
if ok and type(note) == 'table' then
  count = (tonumber(note['count']) or 0) - 1
end
local text
if count >= 1 then
  note['count'] = count
  if type(note['log']) == 'table' then
    table.remove(note['log'])
    -- An empty list would be written as an object.
    if #note['log'] == 0 then
      note['log'] = nil
    end
  end
  ok, text = pcall(cjson.encode, note)
end
-- What can't be written is no note of logweir's.
if count < 1 or not ok then
  redis.call('HDEL', KEYS[1], ARGV[1])
  return 0
end
-- A first write that is allowed when memory is short: what stands there anyway is replaced.
redis.call('HDEL', KEYS[1], '')
redis.call('HSET', KEYS[1], ARGV[1], text)
return count
