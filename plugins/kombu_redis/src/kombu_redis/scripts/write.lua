-- write: changes documents and drops queues if none of the expected documents moved.
-- KEYS  versions docs index seq | for each drop: eight of the queue, claims of each owner
-- ARGV  n (key version)* | n (key value)* | n deleted key* | n (if_empty n owner*)*
-- Returns {'done', version of the first written (the next ones follow), {ready messages dropped*}}
--         or {'conflict', key*}, {'not empty'}, {'owners'} if ARGV does not name every owner.
local stale, at = stale_keys(KEYS[1], 1)
if #stale > 0 then
  return { 'conflict', unpack(stale, 1, math.min(#stale, CHUNK)) }
end

local function pop()
  at = at + 1
  return ARGV[at - 1]
end

local function pop_number()
  return tonumber(pop())
end

local values, written, deleted = {}, {}, {}
for i = 1, pop_number() do
  written[i] = pop()
  values[2 * i - 1], values[2 * i] = written[i], pop()
end
for i = 1, pop_number() do
  deleted[i] = pop()
end

local dropped, dropped_keys = {}, {}
local key_at = 5
for i = 1, pop_number() do
  local queue = queue_keys(key_at)
  local if_empty = pop() == '1'
  local known, count = {}, pop_number()
  for _ = 1, count do
    known[pop()] = true
  end
  for _, owner in ipairs(redis.call('SMEMBERS', queue.owners)) do
    if not known[owner] then
      return { 'owners' }
    end
  end
  dropped[i] = redis.call('ZCARD', queue.ready)
    + redis.call('ZCOUNT', queue.delayed, '-inf', now_ms())
  if if_empty and dropped[i] > 0 then
    return { 'not empty' }
  end
  for _ = 1, STRIDE - 1 + count do
    dropped_keys[#dropped_keys + 1] = KEYS[key_at]
    key_at = key_at + 1
  end
end

local version = 0
if #written > 0 then
  version = take_numbers(KEYS[4], #written)
end
local versions, index = {}, {}
for i = 1, #written do
  versions[2 * i - 1], versions[2 * i] = written[i], version + i - 1
  index[2 * i - 1], index[2 * i] = 0, written[i]
end
variadic('HSET', KEYS[2], values)
variadic('HSET', KEYS[1], versions)
variadic('ZADD', KEYS[3], index)
variadic('HDEL', KEYS[2], deleted)
variadic('HDEL', KEYS[1], deleted)
variadic('ZREM', KEYS[3], deleted)
for _, key in ipairs(dropped_keys) do
  redis.call('UNLINK', key)
end
return { 'done', version, dropped }
