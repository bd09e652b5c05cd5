-- claim: leases ready messages to a session.
-- KEYS  sessions seq held | nine of each queue
-- ARGV  session limit | (name limit expired_only)*
-- Returns -1 if the session is over, else for each queue
--         0 or {{id, place, id, place...}, {body*}, 0 or {returns*}, 0 or {is_expired*}}.
local FIXED = 3
local session, left = ARGV[1], tonumber(ARGV[2])
local now = now_ms()

local lease_end = redis.call('ZSCORE', KEYS[1], session)
if not lease_end or tonumber(lease_end) <= now then
  return -1
end

-- How many at the head ran out of time, of at most `limit`.
local function expired_head(queue, limit)
  if redis.call('EXISTS', queue.expiry) == 0 then
    return 0
  end
  local ids = redis.call('ZRANGE', queue.ready, 0, limit - 1)
  for i = 1, #ids do
    local expires = redis.call('ZSCORE', queue.expiry, ids[i])
    if not expires or tonumber(expires) > now then
      return i - 1
    end
  end
  return #ids
end

-- Leaves out ids whose body somebody deleted.
local function without_bodiless(popped, bodies)
  local kept, kept_bodies, ids = {}, {}, {}
  for i = 1, #bodies do
    if bodies[i] then
      kept[#kept + 1] = popped[2 * i - 1]
      kept[#kept + 1] = popped[2 * i]
      kept_bodies[#kept_bodies + 1] = bodies[i]
      ids[#ids + 1] = popped[2 * i - 1]
    end
  end
  return kept, kept_bodies, ids
end

local function claim(queue, name, limit, expired_only)
  promote(queue, KEYS[2], now)
  if expired_only then
    limit = expired_head(queue, limit)
  end
  local popped = limit > 0 and redis.call('ZPOPMIN', queue.ready, limit) or {}
  if #popped == 0 then
    return 0
  end
  local ids = {}
  for i = 1, #popped, 2 do
    ids[#ids + 1] = popped[i]
  end
  local bodies = redis.call('HMGET', queue.body, unpack(ids))
  for i = 1, #ids do
    if not bodies[i] then
      popped, bodies, ids = without_bodiless(popped, bodies)
      break
    end
  end
  if #ids == 0 then
    return 0
  end
  lease(queue, name, session, KEYS[3], popped)
  if not expired_only and redis.call('EXISTS', queue.ready) == 1 then
    wake(queue)
  end

  local returns, expired = 0, 0
  if redis.call('EXISTS', queue.returns, queue.expiry, queue.bytes) > 0 then
    if redis.call('EXISTS', queue.returns) == 1 then
      returns = redis.call('HMGET', queue.returns, unpack(ids))
    end
    if redis.call('EXISTS', queue.expiry) == 1 then
      expired = redis.call('ZMSCORE', queue.expiry, unpack(ids))
      for i = 1, #ids do
        expired[i] = expired[i] and tonumber(expired[i]) <= now and 1 or 0
      end
    end
    if redis.call('EXISTS', queue.bytes) == 1 then
      local size = 0
      for i = 1, #bodies do
        size = size + payload_size(bodies[i])
      end
      redis.call('DECRBY', queue.bytes, size)
    end
  end
  left = left - #ids
  return { popped, bodies, returns, expired }
end

local results = {}
for i = 3, #ARGV, 3 do
  local queue = queue_keys(FIXED + 1 + #results * STRIDE)
  local limit = math.min(tonumber(ARGV[i + 1]), left, CHUNK)
  results[#results + 1] = limit > 0 and claim(queue, ARGV[i], limit, ARGV[i + 2] == '1') or 0
end
return results
