-- purge: deletes ready messages, all at once if nothing is claimed or delayed, else some.
-- KEYS  seq | eight of the queue
-- ARGV  how many at most, -1 for all
-- Returns {how many were deleted, how many there were}.
local queue = queue_keys(2)
promote(queue, KEYS[1], now_ms())
local ready = redis.call('ZCARD', queue.ready)
if ready == redis.call('HLEN', queue.body) then
  redis.call('UNLINK', queue.ready, queue.body, queue.expiry, queue.returns, queue.bytes)
  return { ready, ready }
end
local limit = tonumber(ARGV[1])
local popped = redis.call('ZPOPMIN', queue.ready, limit < 0 and CHUNK or math.min(CHUNK, limit))
local ids = {}
for i = 1, #popped, 2 do
  ids[#ids + 1] = popped[i]
end
if #ids > 0 then
  if redis.call('EXISTS', queue.bytes) == 1 then
    count_bytes(queue, ids, -1)
  end
  forget(queue, ids)
end
return { #ids, ready }
