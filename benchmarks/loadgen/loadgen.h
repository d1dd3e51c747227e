// What the parts of the load generator share: the options, the clients and the run.
#ifndef LOADGEN_H
#define LOADGEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "document.h"
#include "stats.h"

typedef enum { DIALECT_YWS, DIALECT_HOCUSPOCUS } dialect;
enum { NODES_MAX = 8 };

typedef struct {
    dialect dialect;
    int ports[NODES_MAX];           // one for each node of the server; a room's clients take them in turn
    uint32_t nodes;
    const char *path;               // "/yjs/" for /yjs/<room>; Hocuspocus names the room inside its frames
    const char *run;                // begins every room's name, so that runs never share a document
    uint32_t rooms, clients, writers;   // clients and writers: in each room
    uint32_t late, stalled;         // the last ones of each room: join while it is measured; before them, stop reading
    uint32_t update_chars;          // letters in each update
    double update_rate, cursor_rate;    // a second; of each writer, of each client
    double warmup_s, seconds, drain_s, connect_timeout_s;
    double late_at_s, join_timeout_s;   // after the measured time began; how long the late may take
    bool until_joined;              // type until everybody late is there, instead of for `seconds`
    bool first_alone;               // the first client of each room comes before the others
    bool acknowledged;              // ask for acknowledgements and measure them
    document_use use;
    document document;
    uint32_t opening_max;           // handshakes under way at once
} options;

typedef enum { CLOSED, CONNECTING, UPGRADING, OPEN, SYNCED } phase;

typedef struct {
    uint8_t *data;
    size_t length, capacity;
} buffer;

typedef struct {
    int fd;
    phase phase;
    bool dirty, blocked;            // has bytes to write; waits for EPOLLOUT
    bool late, stalled, paused;     // see `options`; paused: does not read now
    uint32_t room, slot, opened_us;
    buffer in, out, holes;
    size_t wanted;                  // bytes of the large frame that `in` holds the beginning of, or 0
    uint32_t *update_next;          // by slot: the clock expected next
    uint32_t *entry_last;           // by slot: the newest awareness clock seen
    uint64_t updates_seen, entries_seen;    // deliveries, and entries that were overtaken
    uint32_t answers, step2_sent, statuses;     // SyncStep2 received and sent, Hocuspocus' statuses
    progress document;
} client;

// What one client sends of one kind: `next` is the clock to come, `sent_us` when each clock was sent.
typedef struct {
    uint32_t next, measured_from, capacity, acknowledged;
    uint32_t *sent_us;
} source;

// What a frame carries, in two parts: what names it, and its content.
typedef struct {
    const uint8_t *head;
    size_t head_bytes;
    const uint8_t *body;
    size_t body_bytes;
} parts;

// Whether what was delivered came from a client of the receiver's own node.
typedef enum { SAME_NODE, OTHER_NODE, REACHES } reach;

typedef struct {
    uint64_t delivered_measured, skipped_measured, own_echoes;
    histogram latency[REACHES];
} tally;

typedef struct {
    options opt;
    uint32_t count, synced, opening, lost, late_synced;
    client *clients;
    source *updates, *entries;      // by client
    tally update, entry;
    histogram behind;               // microseconds the generator sent after the planned moment
    histogram acknowledgement, join;
    uint64_t frames_in, bytes_in, frames_out, bytes_out, acknowledgements, protocol_errors, overtaken;
    uint64_t origin_ns;
    uint32_t received_us;           // when the bytes now being read arrived
    uint32_t pasted;                // pieces of the document pasted so far
    const char *first_error;
} run;

enum { CLIENT_ID_BASE = 2000000000 };

// wire.c: the dialects
void greet(run *g, client *c);
void take_frame(run *g, client *c, const uint8_t *data, size_t length);
void send_update(run *g, client *c);
void send_cursor(run *g, client *c);
void send_piece(run *g, client *c, uint32_t number);
void ask_for_the_rest(run *g, client *c, uint32_t number);
void fault(run *g, const char *what);

// socket.c: TCP and WebSocket framing
void open_client(run *g, client *c, int epoll);
void close_client(run *g, client *c);
void pause_reading(client *c, int epoll, bool paused);
void readable(run *g, client *c);
void writable(run *g, client *c, int epoll);
void queue_frame(run *g, client *c, int opcode, parts payload);
void flush_dirty(run *g, int epoll);

// tally.c: what came, what is missing, and the figures
void took_updates(run *g, client *c, uint32_t slot, uint32_t first, uint32_t end);
void took_entry(run *g, client *c, uint32_t slot, uint32_t clock);
void took_acknowledgements(run *g, client *c, uint32_t end);
uint64_t missing_updates(const run *g, bool stalled);
uint64_t missing_entries(const run *g);
uint64_t missing_acknowledgements(const run *g);
uint32_t missing_documents(const run *g);
void print_result(const run *g, double window_s, double cpu_s, double recovered_s);

void append(buffer *b, const void *data, size_t length);
void release(buffer *b);
void die(const char *what);
void *array(size_t count, size_t size);
static inline uint32_t node_of(const run *g, uint32_t slot) { return slot % g->opt.nodes; }
static inline reach reach_of(const run *g, uint32_t from_slot, uint32_t to_slot) {
    return node_of(g, from_slot) == node_of(g, to_slot) ? SAME_NODE : OTHER_NODE;
}

// Whether this client brings the room its document, and whether it has to be given it.
static inline bool brings_document(const run *g, const client *c) {
    return c->slot == 0 && (g->opt.use == UPLOAD || (g->opt.use == PASTE && c->room == 0));
}
static inline bool gets_document(const run *g, const client *c) {
    return g->opt.use != NO_DOCUMENT && !brings_document(g, c) && (g->opt.use != PASTE || c->room == 0);
}

uint32_t now_us(const run *g);
uint64_t now_ns(void);

#endif
