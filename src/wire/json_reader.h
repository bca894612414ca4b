/*
 * json_reader.h - JSON (RFC 8259) read token by token, without a tree: numbers as they were written, so that all 64-bit
 * ones are exact, and memory that doesn't grow with the number of values.
 *
 * The reader holds the text to the grammar, and strings to valid UTF-8; what follows the first value is not looked at.
 * Duplicate names are for the caller to see. It doesn't recurse.
 *
 * json.h reads whole objects into jansson's tree, which is handier for small bodies.
 */
#ifndef CORACLE_WIRE_JSON_READER_H
#define CORACLE_WIRE_JSON_READER_H

#include "base/bytes.h"

/* Objects and arrays within one another. A transaction within another one takes three levels, and 128 are allowed. */
#define JSON_READER_DEPTH_MAX 512u

enum json_token {
    JSON_TOKEN_BAD, /* reader->problem says why; and from then on */
    JSON_TOKEN_END, /* the first value is complete; and from then on */
    JSON_TOKEN_OBJECT,
    JSON_TOKEN_OBJECT_END,
    JSON_TOKEN_ARRAY,
    JSON_TOKEN_ARRAY_END,
    JSON_TOKEN_NAME,
    JSON_TOKEN_STRING,
    JSON_TOKEN_NUMBER,
    JSON_TOKEN_TRUE,
    JSON_TOKEN_FALSE,
    JSON_TOKEN_NULL,
};

struct json_reader {
    const uint8_t *begin;
    const uint8_t *at; /* after the value, once it has ended */
    const uint8_t *end;
    const char *problem;
    struct buffer unescaped; /* the last string, if it had escapes */
    uint32_t depth;
    uint8_t expected;
    uint64_t objects[JSON_READER_DEPTH_MAX / 64]; /* a bit for each open level: an object, not an array */
};

/* `text` is borrowed until json_reader_free. */
void json_reader_init(struct json_reader *reader, struct bytes text);
void json_reader_free(struct json_reader *reader);

/*
 * The next token. *text is the name's or string's content without quotes and escapes, or the number as written; a view
 * that lasts until the next call.
 */
enum json_token json_reader_next(struct json_reader *reader, struct bytes *text);

/* Reads on to the end of a value whose first token was `token`. False if it is bad. */
bool json_reader_skip(struct json_reader *reader, enum json_token token);

/* Appends "line 3, column 7: WHAT", where the reader is. */
void json_reader_say(const struct json_reader *reader, const char *what, struct buffer *problem);

/*
 * An integer from a JSON number, exactly; also one written as 1.50e2. False when `number` isn't one, by form or because it
 * has a fraction or more than 64 bits; -0 is 0.
 */
bool json_reader_integer(struct bytes number, bool *negative, uint64_t *magnitude);

/* Where the values of a stream end, whose bytes come in pieces. All zero at its beginning. */
struct json_splitter {
    size_t scanned_bytes;
    size_t begin;
    size_t depth;
    bool begun;
    bool in_string;
    bool escaped;
};

/*
 * Whether `text`, the stream's bytes from the last value's end on, begins with a whole value (after white space, which
 * doesn't count as one). If so, *value is a view of it, the caller goes on with what is behind it, and the splitter is
 * ready for that; else the caller calls again with more. What is no object or array counts as ending with the text: a
 * stream has none, so it will be refused when it is read. Each byte is looked at once.
 */
bool json_splitter_next(struct json_splitter *splitter, struct bytes text, struct bytes *value);

#endif
