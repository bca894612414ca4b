#include "replica/lessor.h"

int64_t lessor_ttl_min_s(time_ns election_timeout)
{
    return (election_timeout + election_timeout / 2 + TIME_NS_PER_S - 1) / TIME_NS_PER_S;
}
