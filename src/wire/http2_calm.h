/*
 * http2_calm.h - how much of what brings no work a client may send: an allowance, on the time of events.
 *
 * Every attack by frames (rapid reset, floods of settings, pings, empty or tiny frames) is many frames, each of them allowed, with little
 * or no honest work among them. So each such frame costs something, time and answered requests give something back, and a client whose
 * allowance is used up is sent away with ENHANCE_YOUR_CALM. Keepalive pings have a rule of their own, which is grpc-go's.
 */
#ifndef CORACLE_WIRE_HTTP2_CALM_H
#define CORACLE_WIRE_HTTP2_CALM_H

#include <stdbool.h>

#include "base/types.h"

#define HTTP2_CALM_MAX 10000
#define HTTP2_CALM_PER_SECOND 1000

/* A request that ended, whoever reset it, before it was answered: 1,000 at once, then 100 a second. */
#define HTTP2_CALM_COST_UNANSWERED 10
/* SETTINGS may change the window of every stream: 500 at once, then 50 a second. */
#define HTTP2_CALM_COST_SETTINGS 20
/* Empty DATA and CONTINUATION, PRIORITY, RST_STREAM, PING, WINDOW_UPDATE. */
#define HTTP2_CALM_COST_FRAME 1
/* A whole answer pays for two requests that get none, say a client's timeouts; */
#define HTTP2_CALM_GAIN_ANSWER 20
/* a DATA frame of ours that isn't tiny, or all there was, for the window updates that it causes. */
#define HTTP2_CALM_GAIN_DATA 4
#define HTTP2_CALM_TINY_BYTES 256u

/* grpc-go's maxPingStrikes: one more ends the connection. */
#define HTTP2_CALM_PING_STRIKES_MAX 2u

struct http2_calm {
    int64_t allowance;
    time_ns refilled_at;
    time_ns pinged_at;
    uint32_t ping_strikes;
    bool pinged;
    bool answered_since_ping;
};

void http2_calm_begin(struct http2_calm *calm, time_ns now);
/* False: there wasn't enough. */
bool http2_calm_spend(struct http2_calm *calm, int64_t cost, time_ns now);
void http2_calm_gain(struct http2_calm *calm, int64_t gain);

/* A ping came. False: too many of them. */
bool http2_calm_ping(struct http2_calm *calm, time_ns interval_min, time_ns now);
/* HEADERS or DATA were sent; the next ping is free. */
void http2_calm_answered(struct http2_calm *calm);

#endif
