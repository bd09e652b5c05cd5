-- end and reap: gives the claims of a session that is over back to their queues, some at a time.
-- KEYS  lapsed held | nine of each queue that it held
-- ARGV  session is_end
-- Returns 1 when nothing is left, 0 if there is more, -1 if KEYS do not name every queue.
local FIXED = 2
local session = ARGV[1]
if redis.call('SISMEMBER', KEYS[1], session) == 0 then
  return 1
end
if redis.call('SCARD', KEYS[2]) ~= (#KEYS - FIXED) / STRIDE then
  return -1
end
local budget = 2 * CHUNK
for first = FIXED + 1, #KEYS, STRIDE do
  local queue = queue_keys(first)
  while redis.call('EXISTS', queue.claims) == 1 do
    if budget <= 0 then
      return 0
    end
    local found = redis.call('HRANDFIELD', queue.claims, CHUNK, 'WITHVALUES')
    for i = 1, #found, 2 do
      release(queue, found[i], found[i + 1], true)
    end
    budget = budget - #found / 2
    wake(queue)
  end
  redis.call('SREM', queue.owners, session)
end
redis.call('UNLINK', KEYS[2])
if ARGV[2] == '1' then
  redis.call('SREM', KEYS[1], session)
end
return 1
