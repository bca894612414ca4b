#include "wire/http2_calm.h"

void http2_calm_begin(struct http2_calm *calm, time_ns now)
{
    *calm = (struct http2_calm){.allowance = HTTP2_CALM_MAX, .refilled_at = now};
}

void http2_calm_gain(struct http2_calm *calm, int64_t gain)
{
    calm->allowance += gain;
    if (calm->allowance > HTTP2_CALM_MAX) calm->allowance = HTTP2_CALM_MAX;
}

bool http2_calm_spend(struct http2_calm *calm, int64_t cost, time_ns now)
{
    if (calm->allowance < cost) {
        /* Only now, so that the usual frame costs a subtraction. */
        time_ns step = TIME_NS_PER_S / HTTP2_CALM_PER_SECOND;
        int64_t steps = now > calm->refilled_at ? (now - calm->refilled_at) / step : 0;
        calm->refilled_at += steps * step;
        http2_calm_gain(calm, steps < HTTP2_CALM_MAX ? steps : HTTP2_CALM_MAX);
    }
    if (calm->allowance < cost) return false;
    calm->allowance -= cost;
    return true;
}

bool http2_calm_ping(struct http2_calm *calm, time_ns interval_min, time_ns now)
{
    bool free = calm->answered_since_ping;
    bool close = calm->pinged && now - calm->pinged_at < interval_min;
    calm->answered_since_ping = false;
    calm->pinged = true;
    calm->pinged_at = now;
    if (free) {
        calm->ping_strikes = 0;
        return true;
    }
    if (close) calm->ping_strikes++;
    return calm->ping_strikes <= HTTP2_CALM_PING_STRIKES_MAX;
}

void http2_calm_answered(struct http2_calm *calm)
{
    calm->answered_since_ping = true;
}
