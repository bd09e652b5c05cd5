-- begin and renew: pushes the end of a session's lease.
-- KEYS  sessions lapsed
-- ARGV  session ttl_ms is_begin
-- Returns 1, or 0 if there is no such session any more.
if ARGV[3] == '1' then
  redis.call('SREM', KEYS[2], ARGV[1])
elseif not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
redis.call('ZADD', KEYS[1], now_ms() + ARGV[2], ARGV[1])
return 1
