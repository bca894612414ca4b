#include "wire/grpc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/random.h"
#include "grpc_rig.h"

static void test_unary(void **state)
{
    (void)state;
    struct grpc_rig rig;
    rig_begin(&rig, NULL);
    frame_append_greeting(&rig.in);
    frame_append_call(&rig.in, 1, "/t/Unary", "grpc-timeout: 250m\nhasleader: true\ntoken: secret");
    frame_append_message(&rig.in, 1, bytes_of_string("hello"), true);
    rig_turn(&rig);
    rig_expect_events(&rig, "call 1 /t/Unary timeout=250000000 hasleader token=secret\n"
                            "message 1 5 hello\n"
                            "closed 1 0\n");
    rig_expect_sent(&rig, "SETTINGS 3=1000 4=16384 6=16384 9=1\n"
                          "SETTINGS ACK\n"
                          "WINDOW_UPDATE 0 2031617\n"
                          "HEADERS 1 :status=200 content-type=application/grpc\n"
                          "DATA 1 10 000000000568656c6c6f\n"
                          "HEADERS 1 END_STREAM grpc-status=0\n");
    rig_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
