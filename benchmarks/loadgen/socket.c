// TCP and the client side of WebSockets (RFC 6455): upgrade, masked frames out, whole unmasked frames in.
// No extension is offered; the accept hash is not checked, since this is a generator and not a browser.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loadgen.h"

enum { OPCODE_CLOSE = 8, OPCODE_PING = 9, OPCODE_PONG = 10, READ_BYTES = 8 << 20 };
enum { LARGE_BYTES = 64 << 10 };                // a frame from this size on is read into a buffer of its own,
enum { LARGE_READ_BYTES = 256 << 10 };          // so much at a time: others' latencies are measured meanwhile

static uint8_t incoming[READ_BYTES];
static client **dirty_clients;
static uint32_t dirty_count;

void append(buffer *b, const void *data, size_t length) {
    if (b->length + length > b->capacity) {
        b->capacity = (b->length + length) * 2;
        b->data = realloc(b->data, b->capacity);
        if (!b->data) { perror("loadgen: memory"); exit(1); }
    }
    memcpy(b->data + b->length, data, length);
    b->length += length;
}

// Room for exactly this many bytes in all.
static void reserve(buffer *b, size_t capacity) {
    if (b->capacity >= capacity) return;
    b->capacity = capacity;
    b->data = realloc(b->data, capacity);
    if (!b->data) { perror("loadgen: memory"); exit(1); }
}

void release(buffer *b) {
    free(b->data);
    *b = (buffer){0};
}

static void watch(int epoll, client *c, int action, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, action, c->fd, &event) < 0) { perror("loadgen: epoll"); exit(1); }
}

static uint32_t wanted_events(const client *c) { return (c->paused ? 0 : EPOLLIN) | (c->blocked ? EPOLLOUT : 0); }

static void mark_dirty(run *g, client *c) {
    if (c->dirty || c->blocked) return;
    if (!dirty_clients) dirty_clients = calloc(g->count, sizeof *dirty_clients);
    c->dirty = true;
    dirty_clients[dirty_count++] = c;
}

void open_client(run *g, client *c, int epoll) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)g->opt.ports[node_of(g, c->slot)])};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) { perror("loadgen: socket"); exit(1); }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->phase = CONNECTING;
    c->opened_us = now_us(g);
    g->opening++;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) { close_client(g, c); return; }
    c->blocked = true;
    watch(epoll, c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

void close_client(run *g, client *c) {
    if (c->phase == CLOSED) return;
    if (c->phase == SYNCED) g->synced--;
    else g->opening--;
    close(c->fd);
    c->phase = CLOSED;
    g->lost += !c->stalled;
    release(&c->in);
    release(&c->out);
}

static void append_masked(buffer *b, const uint8_t *data, size_t length, const uint8_t mask[4], size_t offset) {
    for (size_t done = 0; done < length;) {
        uint8_t masked[4096];
        size_t size = length - done < sizeof masked ? length - done : sizeof masked;
        for (size_t i = 0; i < size; i++) masked[i] = data[done + i] ^ mask[(offset + done + i) & 3];
        append(b, masked, size);
        done += size;
    }
}

void queue_frame(run *g, client *c, int opcode, parts payload) {
    static uint32_t key = 0x9e3779b9;
    key ^= key << 13; key ^= key >> 17; key ^= key << 5;
    uint8_t head[10], mask[4];
    size_t size = 0, length = payload.head_bytes + payload.body_bytes;
    int length_bytes = length < 126 ? 0 : length < 65536 ? 2 : 8;
    if (c->phase == CLOSED) { fault(g, "a frame that cannot be sent"); return; }
    memcpy(mask, &key, 4);
    head[size++] = (uint8_t)(0x80 | opcode);
    head[size++] = (uint8_t)(0x80 | (length_bytes == 0 ? length : length_bytes == 2 ? 126 : 127));
    for (int shift = 8 * (length_bytes - 1); shift >= 0; shift -= 8) head[size++] = (uint8_t)(length >> shift);
    append(&c->out, head, size);
    append(&c->out, mask, sizeof mask);
    append_masked(&c->out, payload.head, payload.head_bytes, mask, 0);
    append_masked(&c->out, payload.body, payload.body_bytes, mask, payload.head_bytes);
    g->frames_out++;
    mark_dirty(g, c);
}

static void upgrade(run *g, client *c) {
    char request[512], room[80] = "";
    if (g->opt.dialect == DIALECT_YWS) snprintf(room, sizeof room, "%s-%u", g->opt.run, c->room);
    int length = snprintf(request, sizeof request,
                          "GET %s%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: Y29sbGFiLWJlbmNobWFyaw==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                          g->opt.path, room, g->opt.ports[node_of(g, c->slot)]);
    append(&c->out, request, (size_t)length);
    c->phase = UPGRADING;
    mark_dirty(g, c);
}

static void flush(run *g, client *c, int epoll) {
    if (c->phase == CLOSED || c->out.length == 0) return;
    ssize_t sent = send(c->fd, c->out.data, c->out.length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) { close_client(g, c); return; }
    if (sent > 0) {
        g->bytes_out += (uint64_t)sent;
        memmove(c->out.data, c->out.data + sent, c->out.length - (size_t)sent);
        c->out.length -= (size_t)sent;
    }
    if (c->out.length > 0 && !c->blocked) {
        c->blocked = true;
        watch(epoll, c, EPOLL_CTL_MOD, wanted_events(c));
    }
}

void pause_reading(client *c, int epoll, bool paused) {
    c->paused = paused;
    watch(epoll, c, EPOLL_CTL_MOD, wanted_events(c));
}

void flush_dirty(run *g, int epoll) {
    for (uint32_t i = 0; i < dirty_count; i++) {
        dirty_clients[i]->dirty = false;
        flush(g, dirty_clients[i], epoll);
    }
    dirty_count = 0;
}

void writable(run *g, client *c, int epoll) {
    if (c->phase == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) { close_client(g, c); return; }
        upgrade(g, c);
    }
    flush(g, c, epoll);
    if (c->phase != CLOSED && c->out.length == 0) {
        c->blocked = false;
        watch(epoll, c, EPOLL_CTL_MOD, wanted_events(c));
    }
}

static void control(run *g, client *c, int opcode, const uint8_t *data, size_t length) {
    if (opcode == OPCODE_PING) queue_frame(g, c, OPCODE_PONG, (parts){data, length, NULL, 0});
    else if (opcode == OPCODE_CLOSE) close_client(g, c);
    else if (opcode != OPCODE_PONG) fault(g, "a frame that is neither binary nor control");
}

// The size of the frame that begins here, in all and of its head; 0 when its head is not there yet.
static size_t frame_size(const uint8_t *data, size_t length, size_t *head) {
    *head = 2;
    if (length < 2) return 0;
    size_t size = data[1] & 0x7f;
    int length_bytes = size == 126 ? 2 : size == 127 ? 8 : 0;
    *head += (size_t)length_bytes;
    if (length < *head) return 0;
    if (length_bytes) size = 0;
    for (int i = 0; i < length_bytes; i++) size = size << 8 | data[2 + i];
    return *head + size;
}

// Takes every whole frame; returns how many bytes that were.
static size_t take_frames(run *g, client *c, const uint8_t *data, size_t length) {
    size_t at = 0, head, size;
    while (c->phase != CLOSED && (size = frame_size(data + at, length - at, &head)) && size <= length - at) {
        if (data[at] == 0x82) take_frame(g, c, data + at + head, size - head);
        else control(g, c, data[at] & 0x0f, data + at + head, size - head);
        at += size;
    }
    return at;
}

static size_t take_upgrade(run *g, client *c, const uint8_t *data, size_t length) {
    const uint8_t *end = memmem(data, length, "\r\n\r\n", 4);
    if (!end) return 0;
    if (length < 12 || memcmp(data, "HTTP/1.1 101", 12) != 0) {
        fault(g, "the server refused the upgrade");
        close_client(g, c);
        return length;
    }
    c->phase = OPEN;
    greet(g, c);
    return (size_t)(end + 4 - data);
}

// Keeps what is not a whole frame yet.
static void keep(client *c, const uint8_t *rest, size_t length) {
    size_t head, size = frame_size(rest, length, &head);
    c->wanted = size >= LARGE_BYTES ? size : 0;
    reserve(&c->in, c->wanted);
    append(&c->in, rest, length);
}

// The large frame under way grows in place, however often it is read from.
static void read_large(run *g, client *c) {
    size_t left = c->wanted - c->in.length;
    ssize_t got = recv(c->fd, c->in.data + c->in.length, left < LARGE_READ_BYTES ? left : LARGE_READ_BYTES, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) { close_client(g, c); return; }
    g->received_us = now_us(g);
    g->bytes_in += (uint64_t)got;
    c->in.length += (size_t)got;
    if (c->in.length < c->wanted) return;
    take_frames(g, c, c->in.data, c->in.length);
    release(&c->in);
    c->wanted = 0;
}

void readable(run *g, client *c) {
    if (c->paused) { close_client(g, c); return; }  // nothing but the connection's end wakes who does not read
    if (c->wanted) { read_large(g, c); return; }
    size_t kept = c->in.length;
    if (kept) memcpy(incoming, c->in.data, kept);
    ssize_t got = recv(c->fd, incoming + kept, c->late && c->phase != SYNCED ? LARGE_READ_BYTES : READ_BYTES - kept, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) { close_client(g, c); return; }
    g->received_us = now_us(g);
    g->bytes_in += (uint64_t)got;
    size_t length = kept + (size_t)got, used = 0;
    if (c->phase == UPGRADING) used = take_upgrade(g, c, incoming, length);
    if (c->phase == OPEN || c->phase == SYNCED) used += take_frames(g, c, incoming + used, length - used);
    release(&c->in);
    if (c->phase != CLOSED && used < length) keep(c, incoming + used, length - used);
}
