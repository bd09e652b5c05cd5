-- end and reap: marks sessions as over, so that they claim nothing any more.
-- KEYS  sessions lapsed
-- ARGV  session, or nothing for all whose lease ran out
-- Returns all that are over and not forgotten.
if ARGV[1] then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('SADD', KEYS[2], ARGV[1])
  return { ARGV[1] }
end
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms(), 'LIMIT', 0, CHUNK)
if #over > 0 then
  redis.call('ZREM', KEYS[1], unpack(over))
  redis.call('SADD', KEYS[2], unpack(over))
end
return redis.call('SMEMBERS', KEYS[2])
