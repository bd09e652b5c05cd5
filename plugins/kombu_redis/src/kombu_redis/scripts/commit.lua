-- commit: puts, acknowledgements and releases in any number of queues, all or nothing.
-- KEYS  versions seq sessions lapsed held | nine of each queue
-- ARGV  session | n (document version)* | n body*
--       | n (queue n ack* n (release is_delivered)*)*
--       | n (queue name max_length max_bytes is_reject keep)*
--       | puts n (queue n (count body priority delay ttl)*)*
--       A queue or body is meant by its position. Durations in ms. -1: no limit, no ttl.
-- Returns 0, or {'conflict', key*}, {'lost', position*},
--         {'done', {rejected position*}, {{queue, id, place, body, returns}*}}.
local FIXED = 5
local session = ARGV[1]

local stale, at = stale_keys(KEYS[1], 2)
if #stale > 0 then
  return { 'conflict', unpack(stale, 1, math.min(#stale, CHUNK)) }
end

local function pop()
  at = at + 1
  return ARGV[at - 1]
end

local function pop_number()
  at = at + 1
  return tonumber(ARGV[at - 1])
end

local queues = {}
local function pop_queue()
  local position = pop_number()
  if not queues[position] then
    queues[position] = queue_keys(FIXED + 1 + position * STRIDE)
    queues[position].position = position
  end
  return queues[position]
end

local body_count = pop_number()
local bodies_at = at
at = at + body_count

-- What the session still has of what it settles. Nothing is written before this is known.
local settled, gone, position = {}, {}, 0
for _ = 1, pop_number() do
  local queue = pop_queue()
  local ids, is_delivered = {}, {}
  local ack_count = pop_number()
  for i = 1, ack_count do
    ids[i] = pop()
  end
  for i = ack_count + 1, ack_count + pop_number() do
    ids[i], is_delivered[i] = pop(), pop() == '1'
  end
  local places = get_fields(queue.claims, ids)
  local acks, releases = {}, {}
  for i = 1, #ids do
    if not places[i] then
      gone[#gone + 1] = position
    elseif i <= ack_count then
      acks[#acks + 1] = ids[i]
    else
      releases[#releases + 1] = { id = ids[i], place = places[i], is_delivered = is_delivered[i] }
    end
    position = position + 1
  end
  settled[#settled + 1] = { queue = queue, acks = acks, releases = releases }
end
-- If the session lives, their queue was dropped, and that is no loss.
if #gone > 0 and not redis.call('ZSCORE', KEYS[3], session) then
  table.insert(gone, 1, 'lost')
  return gone
end

local limits = {}
for _ = 1, pop_number() do
  local queue = pop_queue()
  local limit = { queue = queue, name = pop() }
  limit.max_length, limit.max_bytes = pop_number(), pop_number()
  limit.is_reject, limit.keep = pop() == '1', pop() == '1'
  limits[#limits + 1] = limit
  queue.limit = limit
end

for _, settle in ipairs(settled) do
  local queue = settle.queue
  if #settle.acks > 0 then
    variadic('HDEL', queue.claims, settle.acks)
    forget(queue, settle.acks)
  end
  for _, item in ipairs(settle.releases) do
    release(queue, item.id, item.place, item.is_delivered)
  end
  if #settle.releases > 0 then
    wake(queue)
  end
end

-- The count of bytes begins when a limit in bytes is seen first.
for _, limit in ipairs(limits) do
  if limit.max_bytes >= 0 and redis.call('EXISTS', limit.queue.bytes) == 0 then
    count_bytes(limit.queue, redis.call('ZRANGE', limit.queue.ready, 0, -1), 1)
  end
end

local function is_over(limit, more, more_bytes)
  local queue = limit.queue
  if limit.max_length >= 0 and redis.call('ZCARD', queue.ready) + more > limit.max_length then
    return true
  end
  return limit.max_bytes >= 0
    and tonumber(redis.call('GET', queue.bytes) or 0) + more_bytes > limit.max_bytes
end

-- A queue that is too long loses its head.
local dropped = {}
local function trim(limit)
  local queue = limit.queue
  while not limit.is_reject and is_over(limit, 0, 0) do
    local excess = 1
    if limit.max_length >= 0 then
      excess = math.max(1, redis.call('ZCARD', queue.ready) - limit.max_length)
    end
    local popped = redis.call('ZPOPMIN', queue.ready, math.min(excess, CHUNK))
    if #popped == 0 then
      break
    end
    local ids = {}
    for i = 1, #popped, 2 do
      ids[#ids + 1] = popped[i]
    end
    if redis.call('EXISTS', queue.bytes) == 1 then
      count_bytes(queue, ids, -1)
    end
    if limit.keep then
      lease(queue, limit.name, session, KEYS[5], popped)
      local bodies = get_fields(queue.body, ids)
      local returns = get_fields(queue.returns, ids)
      for i = 1, #ids do
        dropped[#dropped + 1] =
          { queue.position, ids[i], popped[2 * i], bodies[i] or '', returns[i] or 0 }
      end
    else
      forget(queue, ids)
    end
  end
end

-- Runs of puts with consecutive bodies and equal attributes. What they push out is what it would be
-- if each put came by itself, and in that order, hence after each run. It matters where it is kept,
-- and where bytes are counted.
local rejected, number = {}, 0
local now = now_ms()
local put_count = pop_number()
position = 0
for _ = 1, pop_number() do
  local queue = pop_queue()
  local is_tracked = false
  if redis.call('EXISTS', queue.delayed, queue.bytes) > 0 then
    promote(queue, KEYS[2], now)
    is_tracked = redis.call('EXISTS', queue.bytes) == 1
  end
  if number == 0 then
    number = take_numbers(KEYS[2], put_count)
  end
  local is_reject = queue.limit and queue.limit.is_reject
  local bodies, places, expiries, delays = {}, {}, {}, {}
  local bytes, is_news = 0, false
  local function store()
    variadic('HSET', queue.body, bodies)
    variadic('ZADD', queue.ready, places)
    variadic('ZADD', queue.expiry, expiries)
    if bytes > 0 then
      redis.call('INCRBY', queue.bytes, bytes)
    end
    is_news = is_news or #places > 0
    bodies, places, expiries, bytes = {}, {}, {}, 0
  end
  for _ = 1, pop_number() do
    local count, body, priority = pop_number(), bodies_at + pop_number(), pop_number()
    local delay, ttl = pop_number(), pop_number()
    local base = (255 - priority) * BAND
    for i = body, body + count - 1 do
      local raw = ARGV[i]
      local size = is_tracked and payload_size(raw) or 0
      if is_reject and delay == 0 and is_over(queue.limit, #places / 2 + 1, bytes + size) then
        rejected[#rejected + 1] = position
      else
        bodies[#bodies + 1] = number
        bodies[#bodies + 1] = raw
        if delay > 0 then
          local member = string.format('%014.0f:%d', number, priority)
          delays[#delays + 1] = now + delay
          delays[#delays + 1] = ttl < 0 and member or member .. ':' .. string.format('%.0f', ttl)
        else
          bytes = bytes + size
          places[#places + 1] = base + number
          places[#places + 1] = number
          if ttl >= 0 then
            expiries[#expiries + 1] = now + ttl
            expiries[#expiries + 1] = number
          end
        end
      end
      number = number + 1
      position = position + 1
    end
    if queue.limit and (queue.limit.keep or queue.limit.max_bytes >= 0) then
      store()
      trim(queue.limit)
    end
  end
  store()
  if #delays > 0 then
    -- Who waits has to know of an earlier due time than the one that he waits for.
    local before = redis.call('ZRANGE', queue.delayed, 0, 0)[1]
    variadic('ZADD', queue.delayed, delays)
    is_news = is_news or redis.call('ZRANGE', queue.delayed, 0, 0)[1] ~= before
  end
  if is_news then
    wake(queue)
  end
end

for _, limit in ipairs(limits) do
  trim(limit)
end
-- A session that is over or never began has no lease: whoever reaps gives these back.
if #dropped > 0 and not redis.call('ZSCORE', KEYS[3], session) then
  redis.call('SADD', KEYS[4], session)
end

if #rejected == 0 and #dropped == 0 then
  return 0
end
return { 'done', rejected, dropped }
