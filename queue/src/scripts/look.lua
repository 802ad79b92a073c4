-- Looks through a stream without handing bodies out, a bounded piece each call.
-- KEYS: stream
-- ARGV: the ID after which to begin ('' at the beginning), most entries, most bytes to look at,
--       how many strings stand before an entry's own fields, the only producer to be told of ('' for all)
-- Returns {the ID after which to go on ('' at the end), {{id, fields without the body}, …}}.
local after, own, producer = ARGV[1], tonumber(ARGV[4]), ARGV[5]
local looked, entries = 0, {}
for _ = 1, tonumber(ARGV[2]) do
  local from = after == '' and '-' or '(' .. after
  local found = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 1)
  if #found == 0 then
    return {'', entries}
  end
  local id, fields = found[1][1], found[1][2]
  local kept, wanted = {}, producer == ''
  for i = 1, #fields, 2 do
    looked = looked + #fields[i + 1]
    if i <= own or fields[i] ~= 'body' then
      kept[#kept + 1] = fields[i]
      kept[#kept + 1] = fields[i + 1]
    end
    if i > own and fields[i] == 'producer' and string.lower(fields[i + 1]) == producer then
      wanted = true
    end
  end
  if wanted then
    entries[#entries + 1] = {id, kept}
  end
  after = id
  if looked >= tonumber(ARGV[3]) then
    break
  end
end
return {after, entries}
