-- etcd_put.lua - the same load through etcd's JSON gateway.
package.path = "bench/wrk/?.lua;" .. package.path
local common = require("common")
local prepared = 40000

function init()
    common.seed(thread_number)
    request = common.prepare(prepared, function(number)
        return wrk.format("POST", "/v3/kv/put", nil, '{"key":"' .. common.base64(common.key(number)) .. '","value":"' ..
            common.base64(common.value(number)) .. '"}')
    end)
end
