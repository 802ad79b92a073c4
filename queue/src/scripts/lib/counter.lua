-- Stands before each script.
-- A counter's value. What somebody wrote there that is no count is none: adding to it would fail after the entry was added.
local function counter(key)
  local count = tonumber(redis.call('GET', key)) or 0
  if count >= 0 and count < 2 ^ 53 and count == math.floor(count) then
    return count
  end
  return 0
end
