// Yjs v1 bytes, read and made: varints, updates, awareness entries. Nothing here knows sockets. Every reader is
// bounded by the bytes it was given; once one ran past them, `bad` stays set.
#ifndef YJS_H
#define YJS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const uint8_t *at, *end;
    bool bad;
} reader;

uint64_t read_uint(reader *r);
const uint8_t *read_bytes(reader *r, size_t *length);
uint8_t *write_uint(uint8_t *out, uint64_t value);

// Clocks that follow on one another: `length` of `client` from `clock` on, and the `bytes` of text they hold; NULL when
// they hold something else than text.
typedef struct {
    uint64_t client, clock, length;
    const uint8_t *text;
    size_t bytes;
} typing;

// Called once per struct that carries clocks. Skips are left out.
typedef void (*on_run)(void *context, const typing *run);

// Called once per range of deleted clocks.
typedef void (*on_deletion)(void *context, uint64_t client, uint64_t clock, uint64_t length);

// Reads one v1 update, merged or not, down to its last byte. False when it is not one.
bool read_update(const uint8_t *data, size_t length, on_run run, on_deletion deletion, void *context);

// Called once per awareness entry; `gone` when its state is null.
typedef void (*on_entry)(void *context, uint64_t client, uint64_t clock, bool gone);
bool read_awareness(const uint8_t *data, size_t length, on_entry entry, void *context);

// The update a Yjs client makes by typing (or pasting) `chars` characters behind its previous one in the root text "t".
enum { UPDATE_CHARS_MAX = 4000, UPDATE_BYTES_MAX = UPDATE_CHARS_MAX + 64 };
size_t make_update(uint8_t *out, uint32_t client, uint32_t clock, uint32_t chars);

// Whether the text is what `make_update` types at these clocks.
bool as_made(const typing *run);

// One awareness entry as an editor with a cursor sends it.
enum { AWARENESS_BYTES_MAX = 512 };
size_t make_awareness(uint8_t *out, uint32_t client, uint32_t clock);

#endif
