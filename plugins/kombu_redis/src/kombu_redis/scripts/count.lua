-- count: the messages of a queue by state.
-- KEYS  ready body delayed
-- Returns {ready, claimed, delayed}; what is due counts as ready.
local ready = redis.call('ZCARD', KEYS[1])
local waiting = redis.call('ZCARD', KEYS[3])
local due = waiting > 0 and redis.call('ZCOUNT', KEYS[3], '-inf', now_ms()) or 0
local claimed = math.max(0, redis.call('HLEN', KEYS[2]) - ready - waiting)
return { ready + due, claimed, waiting - due }
