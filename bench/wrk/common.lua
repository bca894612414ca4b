-- common.lua - keys and values that both stores are loaded with.
--
-- A value says which key it belongs to and where in the random text it was cut from, so that it can be verified afterwards:
-- 12 digits key number, 6 digits offset, then the text from that offset on; 256 bytes in all.

local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
local text_bytes = 65536
local value_bytes = 256
local common = {keys = 1000000}

-- The same text in every thread and in the verifier: a fixed linear congruential generator, not math.random.
local function make_text()
    local state, out = 12345, {}
    for i = 1, text_bytes do
        state = (state * 1103515245 + 12345) % 2147483648
        local at = math.floor(state / 65536) % 64 + 1
        out[i] = alphabet:sub(at, at)
    end
    return table.concat(out)
end

common.text = make_text()

function common.seed(number)
    math.randomseed(number * 7919 + 17)
    for _ = 1, 10 do math.random() end
end

function common.key(number)
    return string.format("key-%012d", number)
end

function common.random_number()
    return math.random(0, common.keys - 1)
end

function common.value(number)
    local offset = math.random(1, text_bytes - value_bytes)
    return string.format("%012d%06d", number, offset) .. common.text:sub(offset, offset + value_bytes - 19)
end

local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local pairs_of = {}
for high = 0, 63 do
    for low = 0, 63 do
        pairs_of[high * 64 + low] = digits:sub(high + 1, high + 1) .. digits:sub(low + 1, low + 1)
    end
end

-- etcd's JSON gateway wants base64.
function common.base64(bytes)
    local out, n = {}, 0
    local whole = #bytes - #bytes % 3
    for i = 1, whole, 3 do
        local a, b, c = bytes:byte(i, i + 2)
        local bits = a * 65536 + b * 256 + c
        n = n + 1
        out[n] = pairs_of[math.floor(bits / 4096)] .. pairs_of[bits % 4096]
    end
    local rest = #bytes - whole
    if rest == 1 then
        local bits = bytes:byte(whole + 1) * 16
        out[n + 1] = pairs_of[bits] .. "=="
    elseif rest == 2 then
        local a, b = bytes:byte(whole + 1, whole + 2)
        local bits = (a * 256 + b) * 4
        out[n + 1] = pairs_of[math.floor(bits / 64)] .. digits:sub(bits % 64 + 1, bits % 64 + 1) .. "="
    end
    return table.concat(out)
end

-- Requests are built before the run: a generator that costs more than the server would measure itself.
function common.prepare(count, make)
    local requests = {}
    for i = 1, count do requests[i] = make(common.random_number()) end
    local at = 0
    return function()
        at = at % count + 1
        return requests[at]
    end
end

local threads = 0
function setup(thread)
    threads = threads + 1
    thread:set("thread_number", threads)
end

-- Counts answers that aren't the expected 200, per thread; wrk prints non-2xx by itself.
return common
