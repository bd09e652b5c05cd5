-- read: documents of one moment.
-- KEYS  versions docs
-- ARGV  key*
-- Returns {versions, values}, nil for the absent.
return { get_fields(KEYS[1], ARGV), get_fields(KEYS[2], ARGV) }
