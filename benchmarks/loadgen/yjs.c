// Reader and maker of Yjs v1 bytes; the format is the one of yjs 13 (encoding.js, structs/*.js) and yrs.
#include "yjs.h"

#include <stdio.h>
#include <string.h>

enum { REF_GC = 0, REF_DELETED, REF_JSON, REF_BINARY, REF_STRING, REF_EMBED, REF_FORMAT, REF_TYPE, REF_ANY, REF_DOC, REF_SKIP };
enum { HAS_ORIGIN = 0x80, HAS_RIGHT_ORIGIN = 0x40, HAS_PARENT_SUB = 0x20, REF_MASK = 0x1f };
enum { TYPE_XML_ELEMENT = 3, TYPE_XML_HOOK = 5, ANY_DEPTH_MAX = 64 };

uint64_t read_uint(reader *r) {
    if (r->at < r->end && *r->at < 0x80) return *r->at++;
    uint64_t value = 0;
    for (int shift = 0; shift < 63 && r->at < r->end; shift += 7) {
        uint8_t byte = *r->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return value;
    }
    r->bad = true;
    return 0;
}

const uint8_t *read_bytes(reader *r, size_t *length) {
    uint64_t wanted = read_uint(r);
    if (r->bad || wanted > (uint64_t)(r->end - r->at)) {
        r->bad = true;
        *length = 0;
        return r->end;
    }
    const uint8_t *start = r->at;
    r->at += wanted;
    *length = wanted;
    return start;
}

uint8_t *write_uint(uint8_t *out, uint64_t value) {
    for (; value >= 0x80; value >>= 7) *out++ = (uint8_t)(value | 0x80);
    *out++ = (uint8_t)value;
    return out;
}

static uint8_t read_byte(reader *r) {
    if (r->at < r->end) return *r->at++;
    r->bad = true;
    return 0;
}

static void skip_bytes(reader *r) {
    size_t length;
    read_bytes(r, &length);
}

static void skip_raw(reader *r, size_t length) {
    if (length > (size_t)(r->end - r->at)) r->bad = true;
    else r->at += length;
}

static void skip_id(reader *r) {
    read_uint(r);
    read_uint(r);
}

// Clocks count UTF-16 units, as JavaScript strings do.
static uint64_t read_text(reader *r, typing *found) {
    uint64_t units = 0;
    found->text = read_bytes(r, &found->bytes);
    for (size_t i = 0; i < found->bytes; i++) units += ((found->text[i] & 0xc0) != 0x80) + (found->text[i] >= 0xf0);
    return units;
}

static void skip_any(reader *r, int depth) {
    if (depth > ANY_DEPTH_MAX) r->bad = true;
    if (r->bad) return;
    switch (read_byte(r)) {
    case 127: case 126: case 121: case 120: return;     // undefined, null, false, true
    case 125: while (!r->bad && read_byte(r) & 0x80) {} return;
    case 124: skip_raw(r, 4); return;
    case 123: case 122: skip_raw(r, 8); return;
    case 119: case 116: skip_bytes(r); return;
    case 118:
        for (uint64_t n = read_uint(r); n > 0 && !r->bad; n--) { skip_bytes(r); skip_any(r, depth + 1); }
        return;
    case 117:
        for (uint64_t n = read_uint(r); n > 0 && !r->bad; n--) skip_any(r, depth + 1);
        return;
    default: r->bad = true;
    }
}

static uint64_t read_content(reader *r, int ref, typing *found) {
    uint64_t length;
    switch (ref) {
    case REF_DELETED: return read_uint(r);
    case REF_JSON:
        length = read_uint(r);
        for (uint64_t i = 0; i < length && !r->bad; i++) skip_bytes(r);
        return length;
    case REF_BINARY: case REF_EMBED: skip_bytes(r); return 1;
    case REF_STRING: return read_text(r, found);
    case REF_FORMAT: skip_bytes(r); skip_bytes(r); return 1;
    case REF_TYPE: {
        uint64_t type = read_uint(r);
        if (type == TYPE_XML_ELEMENT || type == TYPE_XML_HOOK) skip_bytes(r);
        return 1;
    }
    case REF_ANY:
        length = read_uint(r);
        for (uint64_t i = 0; i < length && !r->bad; i++) skip_any(r, 0);
        return length;
    case REF_DOC: skip_bytes(r); skip_any(r, 0); return 1;
    default: r->bad = true; return 0;
    }
}

static uint64_t read_struct(reader *r, bool *skipped, typing *found) {
    uint8_t info = read_byte(r);
    int ref = info & REF_MASK;
    *skipped = ref == REF_SKIP;
    if (ref == REF_GC || ref == REF_SKIP) return read_uint(r);
    if (info & HAS_ORIGIN) skip_id(r);
    if (info & HAS_RIGHT_ORIGIN) skip_id(r);
    if (!(info & (HAS_ORIGIN | HAS_RIGHT_ORIGIN))) {
        if (read_uint(r) == 1) skip_bytes(r);
        else skip_id(r);
        if (info & HAS_PARENT_SUB) skip_bytes(r);
    }
    return read_content(r, ref, found);
}

bool read_update(const uint8_t *data, size_t length, on_run run, on_deletion deletion, void *context) {
    reader r = {data, data + length, false};
    for (uint64_t sections = read_uint(&r); sections > 0 && !r.bad; sections--) {
        uint64_t structs = read_uint(&r), client = read_uint(&r), clock = read_uint(&r);
        for (; structs > 0 && !r.bad; structs--) {
            bool skipped;
            typing found = {.client = client, .clock = clock};
            found.length = read_struct(&r, &skipped, &found);
            if (r.bad) return false;
            if (!skipped) run(context, &found);
            clock += found.length;
        }
    }
    for (uint64_t sections = read_uint(&r); sections > 0 && !r.bad; sections--) {
        uint64_t client = read_uint(&r);
        for (uint64_t ranges = read_uint(&r); ranges > 0 && !r.bad; ranges--) {
            uint64_t clock = read_uint(&r), deleted = read_uint(&r);
            if (!r.bad && deletion) deletion(context, client, clock, deleted);
        }
    }
    return !r.bad && r.at == r.end;
}

bool read_awareness(const uint8_t *data, size_t length, on_entry entry, void *context) {
    reader r = {data, data + length, false};
    for (uint64_t entries = read_uint(&r); entries > 0 && !r.bad; entries--) {
        uint64_t client = read_uint(&r), clock = read_uint(&r);
        size_t size;
        const uint8_t *state = read_bytes(&r, &size);
        if (r.bad) return false;
        entry(context, client, clock, size == 4 && memcmp(state, "null", 4) == 0);
    }
    return !r.bad && r.at == r.end;
}

static uint8_t letter(uint64_t clock) { return (uint8_t)('a' + clock % 26); }

bool as_made(const typing *run) {
    enum { LETTERS = 26, ROUNDS = 64 };
    static uint8_t alphabets[LETTERS * ROUNDS];         // a text of 20 MB is compared as fast as memory is read
    if (!alphabets[0]) for (size_t i = 0; i < sizeof alphabets; i++) alphabets[i] = letter(i);
    if (!run->text || run->bytes != run->length) return false;
    for (size_t i = 0; i < run->bytes;) {
        size_t start = (run->clock + i) % LETTERS, size = sizeof alphabets - start;
        if (size > run->bytes - i) size = run->bytes - i;
        if (memcmp(run->text + i, alphabets + start, size) != 0) return false;
        i += size;
    }
    return true;
}

size_t make_update(uint8_t *out, uint32_t client, uint32_t clock, uint32_t chars) {
    uint8_t *at = out;
    *at++ = 1;                          // sections
    *at++ = 1;                          // structs
    at = write_uint(at, client);
    at = write_uint(at, clock);
    if (clock == 0) {
        *at++ = REF_STRING;
        *at++ = 1;                      // the parent is a root type
        *at++ = 1;
        *at++ = 't';
    } else {
        *at++ = REF_STRING | HAS_ORIGIN;
        at = write_uint(at, client);
        at = write_uint(at, clock - 1);
    }
    at = write_uint(at, chars);
    for (uint32_t i = 0; i < chars; i++) *at++ = letter(clock + i);
    *at++ = 0;                          // no deletions
    return (size_t)(at - out);
}

size_t make_awareness(uint8_t *out, uint32_t client, uint32_t clock) {
    char state[AWARENESS_BYTES_MAX - 32];
    const char *position = "{\"type\":null,\"tname\":\"t\",\"item\":{\"client\":%u,\"clock\":%u},\"assoc\":0}";
    char cursor[160];
    snprintf(cursor, sizeof cursor, position, client, clock);
    int size = snprintf(state, sizeof state, "{\"user\":{\"name\":\"Writer %u\",\"color\":\"#30bced\"},\"cursor\":{\"anchor\":%s,\"head\":%s}}",
                        client % 1000, cursor, cursor);
    uint8_t *at = out;
    *at++ = 1;                          // entries
    at = write_uint(at, client);
    at = write_uint(at, clock);
    at = write_uint(at, (uint64_t)size);
    memcpy(at, state, (size_t)size);
    return (size_t)(at + size - out);
}
