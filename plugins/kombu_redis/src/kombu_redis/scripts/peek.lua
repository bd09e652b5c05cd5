-- wait: whether anything is ready.
-- KEYS  (ready delayed)*
-- Returns 0 if something is ready or due, else ms until the next is due, -1 without one.
local now = now_ms()
local soonest = -1
for i = 1, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    return 0
  end
  local due = redis.call('ZRANGE', KEYS[i + 1], 0, 0, 'WITHSCORES')[2]
  if due then
    local left = due - now
    if left <= 0 then
      return 0
    end
    if soonest < 0 or left < soonest then
      soonest = left
    end
  end
end
return soonest
