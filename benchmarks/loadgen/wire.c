// The two dialects: y-websocket's frames, and Hocuspocus' which put a document name before and authenticate first.
// Counts what arrives: one delivery is one update or one awareness entry that reaches one other client, merged or not.
#include <stdio.h>
#include <string.h>

#include "loadgen.h"
#include "yjs.h"

enum { MESSAGE_SYNC = 0, MESSAGE_AWARENESS = 1, MESSAGE_AUTH = 2, MESSAGE_QUERY_AWARENESS = 3 };
enum { HOCUSPOCUS_CLOSE = 7, HOCUSPOCUS_SYNC_STATUS = 8, SYNC_STATUS = 102 };
enum { SYNC_STEP1 = 0, SYNC_STEP2 = 1, SYNC_UPDATE = 2 };
enum { OPCODE_BINARY = 2, NAME_BYTES_MAX = 64, HEAD_BYTES_MAX = NAME_BYTES_MAX + 32 };

typedef struct {
    run *g;
    client *c;
} receiver;

void fault(run *g, const char *what) {
    g->protocol_errors++;
    if (!g->first_error) g->first_error = what;
}

static size_t room_name(const run *g, const client *c, char *out) {
    return (size_t)snprintf(out, NAME_BYTES_MAX, "%s-%u", g->opt.run, c->room);
}

static uint8_t *begin(const run *g, const client *c, uint8_t *out, int type) {
    if (g->opt.dialect == DIALECT_HOCUSPOCUS) {
        char name[NAME_BYTES_MAX];
        size_t length = room_name(g, c, name);
        out = write_uint(out, length);
        memcpy(out, name, length);
        out += length;
    }
    return write_uint(out, (uint64_t)type);
}

static void send_bytes(run *g, client *c, uint8_t *head, uint8_t *at, const uint8_t *data, size_t length) {
    at = write_uint(at, length);
    queue_frame(g, c, OPCODE_BINARY, (parts){head, (size_t)(at - head), data, length});
}

static void send_sync(run *g, client *c, int step, const uint8_t *data, size_t length) {
    uint8_t head[HEAD_BYTES_MAX];
    uint8_t *at = begin(g, c, head, MESSAGE_SYNC);
    *at++ = (uint8_t)step;
    send_bytes(g, c, head, at, data, length);
}

void greet(run *g, client *c) {
    static const uint8_t empty_state_vector[] = {0}, token[] = {0, 9, 'b', 'e', 'n', 'c', 'h', 'm', 'a', 'r', 'k', 5, '4', '.', '7', '.', '0'};
    if (g->opt.dialect == DIALECT_HOCUSPOCUS) {
        uint8_t head[HEAD_BYTES_MAX];
        uint8_t *at = begin(g, c, head, MESSAGE_AUTH);
        queue_frame(g, c, OPCODE_BINARY, (parts){head, (size_t)(at - head), token, sizeof token});
    }
    send_sync(g, c, SYNC_STEP1, empty_state_vector, sizeof empty_state_vector);
    if (g->opt.cursor_rate > 0) send_cursor(g, c);
}

void send_piece(run *g, client *c, uint32_t number) {
    const piece *p = &g->opt.document.piece[number];
    send_sync(g, c, SYNC_UPDATE, p->update, p->update_bytes);
}

void ask_for_the_rest(run *g, client *c, uint32_t number) {
    const piece *p = &g->opt.document.piece[number];
    send_sync(g, c, SYNC_STEP1, p->state, p->state_bytes);
}

static void stamp(run *g, source *s) {
    if (s->next < s->capacity) s->sent_us[s->next] = now_us(g);
    s->next++;
}

// y-sweet's question: how much of what I sent is kept? The answer is the number given here.
static void ask_for_status(run *g, client *c, uint32_t version) {
    uint8_t head[HEAD_BYTES_MAX], number[8];
    uint8_t *at = begin(g, c, head, SYNC_STATUS);
    send_bytes(g, c, head, at, number, (size_t)(write_uint(number, version) - number));
}

void send_update(run *g, client *c) {
    source *s = &g->updates[c - g->clients];
    uint8_t update[UPDATE_BYTES_MAX];
    if (s->next >= s->capacity || c->phase == CLOSED) return;
    size_t length = make_update(update, CLIENT_ID_BASE + (uint32_t)(c - g->clients), s->next * g->opt.update_chars, g->opt.update_chars);
    stamp(g, s);
    send_sync(g, c, SYNC_UPDATE, update, length);
    if (g->opt.acknowledged && g->opt.dialect == DIALECT_YWS) ask_for_status(g, c, s->next);
}

void send_cursor(run *g, client *c) {
    source *s = &g->entries[c - g->clients];
    uint8_t head[HEAD_BYTES_MAX], entry[AWARENESS_BYTES_MAX];
    if (s->next >= s->capacity || c->phase == CLOSED) return;
    size_t length = make_awareness(entry, CLIENT_ID_BASE + (uint32_t)(c - g->clients), s->next);
    stamp(g, s);
    send_bytes(g, c, head, begin(g, c, head, MESSAGE_AWARENESS), entry, length);
}

// The slot a client id has in this room, or -1: nobody of this room.
static int64_t slot_of(const receiver *to, uint64_t id) {
    const run *g = to->g;
    int64_t slot = (int64_t)id - CLIENT_ID_BASE - (int64_t)to->c->room * g->opt.clients;
    return slot >= 0 && slot < g->opt.clients ? slot : -1;
}

// Clocks that a newer update of the same writer overtook: Yjs keeps the newer one waiting for them. Rare, so a list.
typedef struct {
    uint32_t slot, start, end;
} hole;

static void open_hole(run *g, client *c, uint32_t slot, uint32_t start, uint32_t end) {
    hole opened = {slot, start, end};
    g->overtaken += end - start;
    append(&c->holes, &opened, sizeof opened);
}

static void fill_holes(run *g, client *c, uint32_t slot, uint32_t start, uint32_t end) {
    buffer left = {0};
    for (size_t at = 0; at < c->holes.length; at += sizeof(hole)) {
        hole h;
        memcpy(&h, c->holes.data + at, sizeof h);
        uint32_t from = h.start > start ? h.start : start, to = h.end < end ? h.end : end;
        if (h.slot != slot || from >= to) { append(&left, &h, sizeof h); continue; }
        took_updates(g, c, slot, from, to);
        if (h.start < from) append(&left, &(hole){slot, h.start, from}, sizeof h);
        if (to < h.end) append(&left, &(hole){slot, to, h.end}, sizeof h);
    }
    release(&c->holes);
    c->holes = left;
}

static void take_run(void *context, const typing *found) {
    receiver *to = context;
    run *g = to->g;
    client *c = to->c;
    if (is_author(&g->opt.document, found->client)) {
        const char *wrong = gets_document(g, c) ? note_run(&g->opt.document, &c->document, found) : NULL;
        if (wrong) fault(g, wrong);
        return;
    }
    uint32_t chars = g->opt.update_chars;
    uint64_t clock = found->clock / chars, end = (found->clock + found->length) / chars;
    int64_t slot = slot_of(to, found->client);
    if (slot < 0) { fault(g, "an update of somebody who is not in the room"); return; }
    if ((uint32_t)slot == c->slot) { g->update.own_echoes += end - clock; return; }
    source *s = &g->updates[c->room * g->opt.clients + slot];
    uint32_t *next = &c->update_next[slot];
    if (end > s->next) { fault(g, "an update that was never sent"); return; }
    if (!as_made(found)) { fault(g, "an update whose text is not what was sent"); return; }
    if (found->clock % chars || found->length % chars) { fault(g, "a part of an update"); return; }
    if (clock < *next && c->holes.length) fill_holes(g, c, (uint32_t)slot, (uint32_t)clock, (uint32_t)end);
    if (end <= *next) return;                       // known already
    if (clock > *next) open_hole(g, c, (uint32_t)slot, *next, (uint32_t)clock);
    took_updates(g, c, (uint32_t)slot, clock > *next ? (uint32_t)clock : *next, (uint32_t)end);
    *next = (uint32_t)end;
}

static void take_deletion(void *context, uint64_t id, uint64_t clock, uint64_t length) {
    receiver *to = context;
    (void)clock;
    if (!is_author(&to->g->opt.document, id)) fault(to->g, "a deletion nobody made");
    else if (gets_document(to->g, to->c)) to->c->document.deleted += length;
}

static void take_entry(void *context, uint64_t id, uint64_t clock, bool gone) {
    receiver *to = context;
    run *g = to->g;
    int64_t slot = slot_of(to, id);
    if (id < CLIENT_ID_BASE || id >= (uint64_t)CLIENT_ID_BASE + g->count) return;     // a server's own entry: pycrdt-websocket
    if (slot < 0) { fault(g, "an awareness entry of somebody who is not in the room"); return; }
    if (gone) { fault(g, "an awareness entry was taken away"); return; }
    if ((uint32_t)slot == to->c->slot) { g->entry.own_echoes++; return; }
    if (clock >= g->entries[to->c->room * g->opt.clients + slot].next) { fault(g, "an awareness entry that was never sent"); return; }
    if (clock > to->c->entry_last[slot]) took_entry(g, to->c, (uint32_t)slot, (uint32_t)clock);
}

// A client is synced when it was answered and has the whole document that the room had before it came.
static void see_whether_synced(run *g, client *c) {
    if (c->phase != OPEN || !c->answers) return;
    bool whole = g->opt.use == NO_DOCUMENT || g->opt.use == PASTE || brings_document(g, c);
    if (!whole && !is_complete(&g->opt.document, &c->document)) return;
    c->phase = SYNCED;
    g->opening--;
    g->synced++;
    if (!c->late) return;
    g->late_synced++;
    observe(&g->join, now_us(g) - c->opened_us);
}

static void take_sync(run *g, client *c, reader *r) {
    receiver to = {g, c};
    size_t length;
    uint64_t step = read_uint(r);
    const uint8_t *data = read_bytes(r, &length);
    if (r->bad) return;
    if (step == SYNC_STEP1) {
        static const uint8_t nothing[] = {0, 0};
        send_sync(g, c, SYNC_STEP2, nothing, sizeof nothing);
        c->step2_sent++;
        return;
    }
    if (!read_update(data, length, take_run, take_deletion, &to)) fault(g, "an update that cannot be read");
    c->answers += step == SYNC_STEP2;
    see_whether_synced(g, c);
}

static bool take_address(run *g, client *c, reader *r) {
    char name[NAME_BYTES_MAX];
    size_t length, expected = room_name(g, c, name);
    const uint8_t *address = read_bytes(r, &length);
    return !r->bad && length == expected && memcmp(address, name, length) == 0;
}

// One status for each SyncStep2 and each update, in their order; the SyncStep2 comes before every update.
static void take_applied(run *g, client *c, reader *r) {
    g->acknowledgements++;
    if (read_uint(r) != 1) fault(g, "an update was refused");
    else if (++c->statuses > c->step2_sent && g->opt.acknowledged) took_acknowledgements(g, c, c->statuses - c->step2_sent);
}

static void take_status(run *g, client *c, reader *r) {
    size_t length;
    const uint8_t *version = read_bytes(r, &length);
    reader number = {version, version + length, false};
    uint64_t end = read_uint(&number);
    if (r->bad || number.bad) return;
    g->acknowledgements++;
    if (g->opt.acknowledged) took_acknowledgements(g, c, (uint32_t)end);
}

static void take_hocuspocus(run *g, client *c, uint64_t type, reader *r) {
    if (type == HOCUSPOCUS_SYNC_STATUS) take_applied(g, c, r);
    else if (type == MESSAGE_AUTH && read_uint(r) == 1) fault(g, "permission denied");
    else if (type == HOCUSPOCUS_CLOSE) fault(g, "the server closed the document");
    r->at = r->end;
}

void take_frame(run *g, client *c, const uint8_t *data, size_t length) {
    reader r = {data, data + length, false};
    receiver to = {g, c};
    g->frames_in++;
    if (g->opt.dialect == DIALECT_HOCUSPOCUS && !take_address(g, c, &r)) { fault(g, "a frame for another document"); return; }
    uint64_t type = read_uint(&r);
    if (type == MESSAGE_SYNC) {
        take_sync(g, c, &r);
    } else if (type == MESSAGE_AWARENESS) {
        size_t size;
        const uint8_t *entries = read_bytes(&r, &size);
        if (!r.bad && !read_awareness(entries, size, take_entry, &to)) fault(g, "awareness that cannot be read");
    } else if (g->opt.dialect == DIALECT_HOCUSPOCUS) {
        take_hocuspocus(g, c, type, &r);
    } else {
        if (type == MESSAGE_AUTH) fault(g, "permission denied");
        if (type == SYNC_STATUS) take_status(g, c, &r);
        r.at = r.end;                               // 3 asks for nothing here
    }
    // Stock clients read only the first message of a frame: what stands behind it is lost to them.
    if (r.bad || r.at != r.end) fault(g, "a frame with bytes behind its first message");
}
