// A document somebody prepared, in pieces: what it holds, and how much of it one client has received.
#ifndef DOCUMENT_H
#define DOCUMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "yjs.h"

enum { DOCUMENT_ID_BASE = 1000000000, AUTHORS_MAX = 32 };

typedef enum { NO_DOCUMENT, UPLOAD, EXPECT, PASTE } document_use;

typedef struct {
    const uint8_t *update, *state;  // the state vector: of everything up to this piece
    size_t update_bytes, state_bytes;
} piece;

// Author k has the client id DOCUMENT_ID_BASE + k and wrote `ends[k]` clocks, `deleted` of all of them are deleted again.
typedef struct {
    bool typed;                     // every text in it is letters as `as_made` knows them
    uint64_t deleted;
    uint32_t authors, pieces;
    uint64_t ends[AUTHORS_MAX];
    piece *piece;
} document;

typedef struct {
    uint64_t next[AUTHORS_MAX], deleted;
} progress;

// Reads the file that benchmarks/documents.py writes; false when it is not one.
bool load_document(document *d, const char *path);

// Whether the client id is one of its authors'.
bool is_author(const document *d, uint64_t id);

// Notes clocks that arrived. Returns what is wrong with them, or NULL.
const char *note_run(const document *d, progress *p, const typing *found);

// Whether every clock and every deletion is there.
bool is_complete(const document *d, const progress *p);

#endif
