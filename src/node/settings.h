/*
 * settings.h - the table of settings: what each is called, what it may be, what it means. Inside of node/; config.h is
 * the door, but for the distance of names, which the commands use too.
 */
#ifndef CORACLE_NODE_SETTINGS_H
#define CORACLE_NODE_SETTINGS_H

#include "node/config.h"

enum setting_kind {
    SETTING_IS_TEXT,
    SETTING_IS_PATH,
    SETTING_IS_PORT,
    SETTING_IS_MILLIS,
    SETTING_IS_BYTES,
    SETTING_IS_NUMBER,
    SETTING_IS_PERCENT,
    SETTING_IS_SWITCH,
    SETTING_IS_CHOICE,
};

struct setting {
    const char *field;       /* in JSON */
    const char *flag;        /* without "--" */
    const char *second_flag; /* another name for it, or NULL */
    const char *environment; /* read besides CORACLE_<FLAG>, or NULL */
    enum setting_kind kind;
    const char *default_text; /* NULL: none, or it follows from other settings */
    uint64_t low, high;       /* of numbers, inclusive */
    const char *choices;      /* "a|b", of a choice */
    const char *help;         /* what it means, one sentence or two */
};

extern const struct setting settings_table[SETTING_COUNT];

/* The setting with this flag (without "--", `size` bytes) or field; SETTING_COUNT when there is none. */
enum setting_id settings_find_flag(const char *name, size_t size);
enum setting_id settings_find_field(const char *name);

/* The flag or field that was probably meant, or NULL. The flags that are no settings count too. Static data. */
const char *settings_nearest_flag(const char *name, size_t size);
const char *settings_nearest_field(const char *name);

/* "CORACLE_API_PORT" for the flag api-port. `out` has 64 bytes. */
void settings_environment_name(const char *flag, char *out);

/* Reads a value: NULL when it is good (*number is set for all but texts and paths), else what is wrong with it. Static text. */
const char *settings_parse(enum setting_id id, const char *text, uint64_t *number);

/* What to give instead: "give a port from 1 to 65535". */
void settings_remedy(enum setting_id id, struct buffer *out);

/* How many single-letter changes make `a` of `b`; at most 255. */
unsigned settings_distance(const char *a, size_t a_size, const char *b, size_t b_size);

/* The distance up to which a name of `size` bytes is a slip for another, rather than another word. */
unsigned settings_slip_max(size_t size);

#endif
