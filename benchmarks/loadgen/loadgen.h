// What the parts of the load generator share: the options, the clients and the run.
#ifndef LOADGEN_H
#define LOADGEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
    double update_rate, cursor_rate;    // a second; of each writer, of each client
    double warmup_s, seconds, drain_s, connect_timeout_s;
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
    uint32_t room, slot;
    buffer in, out, holes;
    uint32_t *update_next;          // by slot: the clock expected next
    uint32_t *entry_last;           // by slot: the newest awareness clock seen
} client;

// What one client sends of one kind: `next` is the clock to come, `sent_us` when each clock was sent.
typedef struct {
    uint32_t next, measured_from, capacity;
    uint32_t *sent_us;
} source;

// Whether what was delivered came from a client of the receiver's own node.
typedef enum { SAME_NODE, OTHER_NODE, REACHES } reach;

typedef struct {
    uint64_t delivered, delivered_measured, skipped, skipped_measured, own_echoes;
    histogram latency[REACHES];
} tally;

typedef struct {
    options opt;
    uint32_t count, synced, opening, opened, lost;
    client *clients;
    source *updates, *entries;      // by client
    tally update, entry;
    histogram behind;               // microseconds the generator sent after the planned moment
    uint64_t frames_in, bytes_in, frames_out, bytes_out, acknowledgements, protocol_errors, overtaken;
    uint64_t origin_ns;
    uint32_t received_us;           // when the bytes now being read arrived
    const char *first_error;
} run;

enum { CLIENT_ID_BASE = 2000000000 };

// wire.c: the dialects
void greet(run *g, client *c);
void take_frame(run *g, client *c, const uint8_t *data, size_t length);
void send_update(run *g, client *c);
void send_cursor(run *g, client *c);
void fault(run *g, const char *what);

// socket.c: TCP and WebSocket framing
void open_client(run *g, client *c, int epoll);
void close_client(run *g, client *c);
void readable(run *g, client *c);
void writable(run *g, client *c, int epoll);
void queue_frame(run *g, client *c, int opcode, const uint8_t *data, size_t length);
void flush_dirty(run *g, int epoll);

void append(buffer *b, const void *data, size_t length);
void release(buffer *b);
static inline uint32_t node_of(const run *g, uint32_t slot) { return slot % g->opt.nodes; }
static inline reach reach_of(const run *g, uint32_t from_slot, uint32_t to_slot) {
    return node_of(g, from_slot) == node_of(g, to_slot) ? SAME_NODE : OTHER_NODE;
}

uint32_t now_us(const run *g);
uint64_t now_ns(void);

#endif
