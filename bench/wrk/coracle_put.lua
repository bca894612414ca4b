-- coracle_put.lua - random keys, random 256-byte values, POST /v1/data.
package.path = "bench/wrk/?.lua;" .. package.path
local common = require("common")
local prepared = 40000

function init()
    common.seed(thread_number)
    request = common.prepare(prepared, function(number)
        return wrk.format("POST", "/v1/data", nil, '{"k":"' .. common.key(number) .. '","v":"' .. common.value(number) .. '"}')
    end)
end
