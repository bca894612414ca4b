#include "os/logger.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* 2026-11-24T13:00:00.123Z */
#define START ((time_ns)1795525200123 * TIME_NS_PER_MS)

static time_ns now;
static int ends[2];
static struct logger *logger;

static time_ns fixed_clock(void)
{
    return now;
}

static void begin(bool json)
{
    now = START;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    struct os_logger_options options = {.level = LOG_LEVEL_INFO, .json = json, .fd = ends[1], .clock = fixed_clock};
    logger = os_logger_new(&options);
}

static const char *output(void)
{
    static char text[65536];
    ssize_t size = read(ends[0], text, sizeof text - 1);
    text[size > 0 ? size : 0] = 0;
    return text;
}

static void end(void)
{
    os_logger_free(logger);
    close(ends[0]);
    close(ends[1]);
}

static void lines_have_time_level_event_and_fields(void **state)
{
    (void)state;
    begin(false);
    log_warn(logger, "sync was slow", "file=%s ms=%d", "/d/log/3", 12);
    assert_string_equal(output(), "2026-11-24T13:00:00.123Z WARN sync was slow file=/d/log/3 ms=12\n");
    log_info(logger, "ready", "");
    assert_string_equal(output(), "2026-11-24T13:00:00.123Z INFO ready\n");
    log_debug(logger, "detail", "x=1");
    assert_string_equal(output(), "");
    now += TIME_NS_PER_MS * 877;
    log_error(logger, "stopping", "error=%s", "it is over");
    assert_string_equal(output(), "2026-11-24T13:00:01.000Z ERROR stopping error=\"it is over\"\n");
    now = 0;
    log_info(logger, "ready", "");
    assert_string_equal(output(), "1970-01-01T00:00:00.000Z INFO ready\n");
    end();
}

static void no_field_can_begin_another_line(void **state)
{
    (void)state;
    begin(false);
    log_info(logger, "name", "key=%s", "a\nFAKE\r\t\x1b[2J\x7f\xc3\xa4");
    assert_string_equal(output(),
                        "2026-11-24T13:00:00.123Z INFO name key=\"a\\x0aFAKE\\x0d\\x09\\x1b[2J\\x7f\xc3\xa4\"\n");
    end();
}

static void json_lines_have_the_fields_as_members(void **state)
{
    (void)state;
    begin(true);
    log_warn(logger, "sync was slow", "file=%s ms=%d", "/d/log/3", 12);
    assert_string_equal(output(), "{\"time\":\"2026-11-24T13:00:00.123Z\",\"level\":\"warn\","
                                  "\"event\":\"sync was slow\",\"file\":\"/d/log/3\",\"ms\":12}\n");
    log_info(logger, "ready", "");
    assert_string_equal(output(), "{\"time\":\"2026-11-24T13:00:00.123Z\",\"level\":\"info\",\"event\":\"ready\"}\n");
    end();
}

static void assert_json_fields(const char *fields, const char *expected)
{
    begin(true);
    log_info(logger, "e", "%s", fields);
    char line[LOG_FIELDS_BYTES_MAX * 8];
    snprintf(line, sizeof line, "{\"time\":\"2026-11-24T13:00:00.123Z\",\"level\":\"info\",\"event\":\"e\",%s}\n",
             expected);
    assert_string_equal(output(), line);
    end();
}

static void json_values_keep_their_spaces_and_odd_bytes(void **state)
{
    (void)state;
    assert_json_fields("error=sync /d/x: Input/output error file=a b_2=", "\"error\":\"sync /d/x: Input/output error\","
                                                                          "\"file\":\"a\",\"b_2\":\"\"");
    assert_json_fields("a=x=y b=1=2", "\"a\":\"x=y\",\"b\":\"1=2\"");
    assert_json_fields("no pairs here", "\"text\":\"no pairs here\"");
    assert_json_fields("first a=1", "\"text\":\"first\",\"a\":1");
    assert_json_fields("a=x  b=2", "\"a\":\"x \",\"b\":2");
    assert_json_fields("a=q\"\\\n\x01\x7f", "\"a\":\"q\\\"\\\\\\u000a\\u0001\\u007f\"");
    /* Numbers are those that every reader of JSON reads exactly. */
    assert_json_fields("a=0 b=-5 c=007 d=- e=1.5 f=999999999999999 g=1000000000000000 h=0x1",
                       "\"a\":0,\"b\":-5,\"c\":\"007\",\"d\":\"-\",\"e\":\"1.5\",\"f\":999999999999999,"
                       "\"g\":\"1000000000000000\",\"h\":\"0x1\"");
    /* What isn't UTF-8 becomes U+FFFD, byte by byte. */
    assert_json_fields("a=\xc3\xa4\xe2\x82\xac\xf0\x9f\x99\x82", "\"a\":\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x99\x82\"");
#define BAD "\xef\xbf\xbd"
    assert_json_fields("a=\xff-\xc0\x80-\xe0\x80\x80-\xed\xa0\x80-\xf4\x90\x80\x80-\xe2\x82",
                       "\"a\":\"" BAD "-" BAD BAD "-" BAD BAD BAD "-" BAD BAD BAD "-" BAD BAD BAD BAD "-" BAD BAD "\"");
}

static void quotes_are_around_values_and_not_in_them(void **state)
{
    (void)state;
    static const struct {
        const char *fields, *text, *json;
    } lines[] = {
        {"a=\"\" b=1", "a= b=1", "\"a\":\"\",\"b\":1"},
        {"a=\"b\"", "a=b", "\"a\":\"b\""},
        {"a=\"b c\" d=e", "a=\"b c\" d=e", "\"a\":\"b c\",\"d\":\"e\""},
        {"a=b c d=e", "a=\"b c\" d=e", "\"a\":\"b c\",\"d\":\"e\""},
        /* What looks like a field within quotes is none. */
        {"a=\"b d=e\" f=1", "a=\"b d=e\" f=1", "\"a\":\"b d=e\",\"f\":1"},
        {"a=\"say \"b\" to c\" d=e", "a=\"say \\\"b\\\" to c\" d=e", "\"a\":\"say \\\"b\\\" to c\",\"d\":\"e\""},
        {"a=\"b\" is no c d=e", "a=\"\\\"b\\\" is no c\" d=e", "\"a\":\"\\\"b\\\" is no c\",\"d\":\"e\""},
        {"a=\"C:\\b c\"", "a=\"C:\\\\b c\"", "\"a\":\"C:\\\\b c\""},
        {"a=C:\\b", "a=C:\\b", "\"a\":\"C:\\\\b\""},
        {"a=\"cut of", "a=\"cut of\"", "\"a\":\"cut of\""},
        {"a=\"", "a=", "\"a\":\"\""},
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        assert_json_fields(lines[i].fields, lines[i].json);
        begin(false);
        log_info(logger, "e", "%s", lines[i].fields);
        char line[256];
        snprintf(line, sizeof line, "2026-11-24T13:00:00.123Z INFO e %s\n", lines[i].text);
        assert_string_equal(output(), line);
        end();
    }
}

static void longest_line_fits_in_both_forms(void **state)
{
    (void)state;
    char long_fields[LOG_FIELDS_BYTES_MAX * 2 + 1];
    memset(long_fields, 1, sizeof long_fields - 1);
    long_fields[sizeof long_fields - 1] = 0;
    for (int json = 0; json < 2; json++) {
        begin(json);
        log_info(logger, "e", "%s", long_fields);
        const char *text = output();
        size_t size = strlen(text);
        assert_true(size > LOG_FIELDS_BYTES_MAX * 4);
        assert_int_equal(text[size - 1], '\n');
        assert_ptr_equal(strchr(text, '\n'), text + size - 1);
        end();
    }
}

#define PREFIX "2026-11-24T13:00:0"

static void repeated_warnings_are_counted(void **state)
{
    (void)state;
    begin(false);
    for (int i = 0; i < 5; i++) log_warn(logger, "slow", "ms=1");
    assert_string_equal(output(), PREFIX "0.123Z WARN slow ms=1\n");
    /* Other fields, another level or another event is another line. */
    log_warn(logger, "slow", "ms=2");
    log_error(logger, "slow", "ms=1");
    log_warn(logger, "slower", "ms=1");
    assert_string_equal(output(), PREFIX "0.123Z WARN slow ms=2\n" PREFIX "0.123Z ERROR slow ms=1\n" PREFIX
                                         "0.123Z WARN slower ms=1\n");
    now += 9 * TIME_NS_PER_S;
    log_warn(logger, "slow", "ms=1");
    assert_string_equal(output(), "");
    now += TIME_NS_PER_S;
    log_warn(logger, "slow", "ms=1");
    assert_string_equal(output(), "2026-11-24T13:00:10.123Z WARN slow ms=1 repeated=5\n");
    log_warn(logger, "slow", "ms=1");
    assert_string_equal(output(), "");
    end();
}

static void counts_come_out_when_nobody_repeats_the_line(void **state)
{
    (void)state;
    begin(true);
    log_warn(logger, "slow", "ms=1");
    log_warn(logger, "slow", "ms=1");
    log_warn(logger, "slow", "ms=1");
    output();
    now += 11 * TIME_NS_PER_S;
    log_info(logger, "other", "");
    assert_string_equal(output(), "{\"time\":\"2026-11-24T13:00:11.123Z\",\"level\":\"warn\",\"event\":\"slow\","
                                  "\"ms\":1,\"repeated\":2}\n"
                                  "{\"time\":\"2026-11-24T13:00:11.123Z\",\"level\":\"info\",\"event\":\"other\"}\n");
    /* Once counted, the line is new again. */
    log_warn(logger, "slow", "ms=1");
    log_warn(logger, "slow", "ms=1");
    output();
    os_logger_free(logger);
    assert_string_equal(output(), "{\"time\":\"2026-11-24T13:00:11.123Z\",\"level\":\"warn\",\"event\":\"slow\","
                                  "\"ms\":1,\"repeated\":1}\n");
    close(ends[0]);
    close(ends[1]);
}

static void info_is_never_kept_back(void **state)
{
    (void)state;
    begin(false);
    log_info(logger, "a", "");
    log_info(logger, "a", "");
    assert_string_equal(output(), PREFIX "0.123Z INFO a\n" PREFIX "0.123Z INFO a\n");
    end();
}

static void a_clock_that_is_set_back_keeps_nothing_back(void **state)
{
    (void)state;
    begin(false);
    log_warn(logger, "slow", "");
    output();
    now -= 3600 * TIME_NS_PER_S;
    log_warn(logger, "slow", "");
    assert_string_equal(output(), "2026-11-24T12:00:00.123Z WARN slow\n");
    end();
}

static void more_warnings_than_it_remembers_lose_no_count(void **state)
{
    (void)state;
    begin(false);
    unsigned written = 0, counted = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 40; i++) {
            for (int times = 0; times < 1 + i % 3; times++) log_warn(logger, "slow", "peer=%d", i);
            now += TIME_NS_PER_MS;
        }
    }
    os_logger_free(logger);
    char *line = strtok((char *)(uintptr_t)output(), "\n");
    for (; line != NULL; line = strtok(NULL, "\n")) {
        char *repeated = strstr(line, " repeated=");
        unsigned count = 0;
        if (repeated != NULL) {
            assert_int_equal(sscanf(repeated, " repeated=%u", &count), 1);
            counted += count;
        } else {
            written++;
        }
    }
    /* 40 peers, of which 13 warn twice and 13 three times, three rounds long. */
    assert_int_equal(written + counted, 3 * (14 + 13 * 2 + 13 * 3));
    assert_int_equal(counted, 3 * (13 + 13 * 2));
    close(ends[0]);
    close(ends[1]);
}

static void *log_a_lot(void *user)
{
    (void)user;
    for (int i = 0; i < 200; i++) log_info(logger, "from a thread", "n=%03d", i);
    return NULL;
}

static void threads_do_not_mix_their_lines(void **state)
{
    (void)state;
    begin(false);
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, log_a_lot, NULL), 0);
    }
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++) pthread_join(threads[i], NULL);
    unsigned lines = 0;
    for (char *line = strtok((char *)(uintptr_t)output(), "\n"); line != NULL; line = strtok(NULL, "\n")) {
        assert_int_equal(strlen(line), strlen(PREFIX "0.123Z INFO from a thread n=000"));
        lines++;
    }
    assert_int_equal(lines, 800);
    end();
}

static void a_reader_that_is_gone_or_full_does_no_harm(void **state)
{
    (void)state;
    begin(false);
    assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    for (int i = 0; i < 10000; i++) log_info(logger, "fill", "n=%d", i);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_have_time_level_event_and_fields),
        cmocka_unit_test(no_field_can_begin_another_line),
        cmocka_unit_test(json_lines_have_the_fields_as_members),
        cmocka_unit_test(json_values_keep_their_spaces_and_odd_bytes),
        cmocka_unit_test(quotes_are_around_values_and_not_in_them),
        cmocka_unit_test(longest_line_fits_in_both_forms),
        cmocka_unit_test(repeated_warnings_are_counted),
        cmocka_unit_test(counts_come_out_when_nobody_repeats_the_line),
        cmocka_unit_test(info_is_never_kept_back),
        cmocka_unit_test(a_clock_that_is_set_back_keeps_nothing_back),
        cmocka_unit_test(more_warnings_than_it_remembers_lose_no_count),
        cmocka_unit_test(threads_do_not_mix_their_lines),
        cmocka_unit_test(a_reader_that_is_gone_or_full_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
