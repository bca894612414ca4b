/*
 * etcd_messages.h - every request and answer of the etcd v3 interface, for tests that go through all of them.
 */
#ifndef CORACLE_TEST_ETCD_MESSAGES_H
#define CORACLE_TEST_ETCD_MESSAGES_H

#include <stddef.h>

#include "proto/etcd/health.pb-c.h"
#include "proto/etcd/rpc.pb-c.h"
#include "proto/etcd/v3election.pb-c.h"
#include "proto/etcd/v3lock.pb-c.h"

static const ProtobufCServiceDescriptor *const etcd_services[] = {
    &etcdserverpb__kv__descriptor,       &etcdserverpb__watch__descriptor, &etcdserverpb__lease__descriptor,
    &etcdserverpb__cluster__descriptor,  &etcdserverpb__auth__descriptor,  &etcdserverpb__maintenance__descriptor,
    &v3electionpb__election__descriptor, &v3lockpb__lock__descriptor,      &grpc__health__v1__health__descriptor,
};
#define ETCD_SERVICE_COUNT (sizeof etcd_services / sizeof etcd_services[0])

/* The `index`-th of all requests (even) and answers (odd), some of which several methods share; NULL past the last. */
static inline const ProtobufCMessageDescriptor *etcd_message(size_t index)
{
    for (size_t i = 0; i < ETCD_SERVICE_COUNT; i++) {
        size_t messages = (size_t)etcd_services[i]->n_methods * 2;
        if (index < messages) {
            const ProtobufCMethodDescriptor *method = &etcd_services[i]->methods[index / 2];
            return index % 2 == 0 ? method->input : method->output;
        }
        index -= messages;
    }
    return NULL;
}

#endif
