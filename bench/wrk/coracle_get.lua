-- coracle_get.lua - linearizable gets of random keys.
package.path = "bench/wrk/?.lua;" .. package.path
local common = require("common")
local prepared = 40000

function init()
    common.seed(thread_number)
    request = common.prepare(prepared, function(number)
        return wrk.format("GET", "/v1/data/" .. common.key(number))
    end)
end
