-- etcd_get.lua - linearizable gets of random keys through etcd's JSON gateway.
package.path = "bench/wrk/?.lua;" .. package.path
local common = require("common")
local prepared = 40000

function init()
    common.seed(thread_number)
    request = common.prepare(prepared, function(number)
        return wrk.format("POST", "/v3/kv/range", nil, '{"key":"' .. common.base64(common.key(number)) .. '"}')
    end)
end
