-- What several scripts share: it is put before each of them.

-- A place in a queue is (255 - priority) * BAND + number: the largest is 2^53 - 1, so that a
-- sorted set's double keeps it exactly. The smallest score is the next message.
local BAND = 35184372088832
-- How many items one variadic command may take: Lua's stack holds 8000 values.
local CHUNK = 1000

-- KEYS of a queue: nine in this order, as Layout.queue and Layout.claims make them.
local STRIDE = 9

local function queue_keys(first)
  return {
    ready = KEYS[first],
    body = KEYS[first + 1],
    wake = KEYS[first + 2],
    delayed = KEYS[first + 3],
    expiry = KEYS[first + 4],
    returns = KEYS[first + 5],
    bytes = KEYS[first + 6],
    owners = KEYS[first + 7],
    claims = KEYS[first + 8],
  }
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Runs `command key items...` in pieces; `items` may be pairs.
local function variadic(command, key, items)
  for first = 1, #items, 2 * CHUNK do
    redis.call(command, key, unpack(items, first, math.min(first + 2 * CHUNK - 1, #items)))
  end
end

-- HMGET of any number of fields.
local function get_fields(key, fields)
  if #fields <= CHUNK then
    return redis.call('HMGET', key, unpack(fields))
  end
  local values = {}
  for first = 1, #fields, CHUNK do
    local last = math.min(first + CHUNK - 1, #fields)
    local piece = redis.call('HMGET', key, unpack(fields, first, last))
    for i = 1, last - first + 1 do
      values[first + i - 1] = piece[i]
    end
  end
  return values
end

-- Takes `count` numbers from the counter and returns the first. A new counter begins at the time
-- in milliseconds, so that no version or id comes back after the data was lost.
local function take_numbers(counter, count)
  local last = redis.call('INCRBY', counter, count)
  if last == count then
    last = now_ms() + count
    redis.call('SET', counter, last)
  end
  return last - count + 1
end

-- Reads "n (key version)*" from ARGV[at]; returns the keys whose version is another by now, and
-- the place after.
local function stale_keys(versions, at)
  local stale = {}
  local count = tonumber(ARGV[at])
  for i = at + 1, at + 2 * count, 2 do
    if (redis.call('HGET', versions, ARGV[i]) or '0') ~= ARGV[i + 1] then
      stale[#stale + 1] = ARGV[i]
    end
  end
  return stale, at + 1 + 2 * count
end

-- Leaves one token for whoever waits; he who takes it claims, and leaves another for the next.
local function wake(queue)
  if redis.call('LLEN', queue.wake) == 0 then
    redis.call('RPUSH', queue.wake, '1')
  end
end

-- The length of the application's body in an envelope: "K1", 4 bytes length of header, header, body.
local function payload_size(raw)
  if string.sub(raw, 1, 2) ~= 'K1' or #raw < 6 then
    return #raw
  end
  local a, b, c, d = string.byte(raw, 3, 6)
  return math.max(0, #raw - 6 - (((a * 256 + b) * 256 + c) * 256 + d))
end

-- Adds the size of ready messages to the count that a queue with a limit in bytes keeps.
local function count_bytes(queue, ids, sign)
  local sum = 0
  for _, id in ipairs(ids) do
    sum = sum + payload_size(redis.call('HGET', queue.body, id) or '')
  end
  -- Lua would write minus nothing as "-0", which is no integer for Redis.
  redis.call('INCRBY', queue.bytes, string.format('%d', sign * sum))
end

-- Gives delayed messages that are due their place at the end of the queue, at most CHUNK of them.
local function promote(queue, counter, now)
  local due = redis.call(
    'ZRANGEBYSCORE', queue.delayed, '-inf', now, 'WITHSCORES', 'LIMIT', 0, CHUNK
  )
  if #due > 0 then
    local number = take_numbers(counter, #due / 2)
    local members, places, expiries, ids = {}, {}, {}, {}
    for i = 1, #due, 2 do
      local id, priority, ttl = string.match(due[i], '^(%d+):(%d+):?(%d*)$')
      id = tonumber(id)
      ids[#ids + 1] = id
      members[#members + 1] = due[i]
      places[#places + 1] = (255 - priority) * BAND + number
      places[#places + 1] = id
      if ttl ~= '' then
        expiries[#expiries + 1] = due[i + 1] + ttl
        expiries[#expiries + 1] = id
      end
      number = number + 1
    end
    variadic('ZREM', queue.delayed, members)
    variadic('ZADD', queue.ready, places)
    variadic('ZADD', queue.expiry, expiries)
    if redis.call('EXISTS', queue.bytes) == 1 then
      count_bytes(queue, ids, 1)
    end
    wake(queue)
  end
end

-- Forgets what a queue knows of messages that left it.
local function forget(queue, ids)
  variadic('HDEL', queue.body, ids)
  if redis.call('EXISTS', queue.expiry, queue.returns) > 0 then
    variadic('ZREM', queue.expiry, ids)
    variadic('HDEL', queue.returns, ids)
  end
end

-- Gives a claimed message back to its old place, unless its body is gone.
local function release(queue, id, place, is_delivered)
  redis.call('HDEL', queue.claims, id)
  if redis.call('HEXISTS', queue.body, id) == 1 then
    redis.call('ZADD', queue.ready, place, id)
    if is_delivered then
      redis.call('HINCRBY', queue.returns, id, 1)
    end
    if redis.call('EXISTS', queue.bytes) == 1 then
      count_bytes(queue, { id }, 1)
    end
  end
end

-- Leases messages to a session: `pairs_of` is id, place, id, place...
local function lease(queue, name, session, held, pairs_of)
  if redis.call('EXISTS', queue.claims) == 0 then
    redis.call('SADD', held, name)
    redis.call('SADD', queue.owners, session)
  end
  variadic('HSET', queue.claims, pairs_of)
end
