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

void release(buffer *b) {
    free(b->data);
    *b = (buffer){0};
}

static void watch(int epoll, client *c, int action, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, action, c->fd, &event) < 0) { perror("loadgen: epoll"); exit(1); }
}

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
    g->opened++;
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
    g->lost++;
    release(&c->in);
    release(&c->out);
}

void queue_frame(run *g, client *c, int opcode, const uint8_t *data, size_t length) {
    static uint32_t key = 0x9e3779b9;
    key ^= key << 13; key ^= key >> 17; key ^= key << 5;
    uint8_t head[8], mask[4], body[2048];
    size_t size = 0;
    if (c->phase == CLOSED || length > sizeof body) { fault(g, "a frame that cannot be sent"); return; }
    memcpy(mask, &key, 4);
    head[size++] = (uint8_t)(0x80 | opcode);
    if (length < 126) {
        head[size++] = (uint8_t)(0x80 | length);
    } else {
        head[size++] = 0x80 | 126;
        head[size++] = (uint8_t)(length >> 8);
        head[size++] = (uint8_t)length;
    }
    memcpy(head + size, mask, 4);
    for (size_t i = 0; i < length; i++) body[i] = data[i] ^ mask[i & 3];
    append(&c->out, head, size + 4);
    append(&c->out, body, length);
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
        watch(epoll, c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
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
        watch(epoll, c, EPOLL_CTL_MOD, EPOLLIN);
    }
}

static void control(run *g, client *c, int opcode, const uint8_t *data, size_t length) {
    if (opcode == OPCODE_PING) queue_frame(g, c, OPCODE_PONG, data, length);
    else if (opcode == OPCODE_CLOSE) close_client(g, c);
    else if (opcode != OPCODE_PONG) fault(g, "a frame that is neither binary nor control");
}

// Takes every whole frame; returns how many bytes that were.
static size_t take_frames(run *g, client *c, const uint8_t *data, size_t length) {
    size_t at = 0;
    while (c->phase != CLOSED && length - at >= 2) {
        size_t size = data[at + 1] & 0x7f, head = 2;
        if (size == 126) {
            if (length - at < 4) break;
            size = (size_t)data[at + 2] << 8 | data[at + 3];
            head = 4;
        } else if (size == 127) {
            if (length - at < 10) break;
            size = 0;
            for (int i = 2; i < 10; i++) size = size << 8 | data[at + i];
            head = 10;
        }
        if (length - at < head || length - at - head < size) break;
        if (data[at] == 0x82) take_frame(g, c, data + at + head, size);
        else control(g, c, data[at] & 0x0f, data + at + head, size);
        at += head + size;
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

void readable(run *g, client *c) {
    size_t kept = c->in.length;
    if (kept >= READ_BYTES) { fault(g, "a frame larger than the generator reads"); close_client(g, c); return; }
    if (kept) memcpy(incoming, c->in.data, kept);
    ssize_t got = recv(c->fd, incoming + kept, READ_BYTES - kept, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) { close_client(g, c); return; }
    g->received_us = now_us(g);
    g->bytes_in += (uint64_t)got;
    size_t length = kept + (size_t)got, used = 0;
    if (c->phase == UPGRADING) used = take_upgrade(g, c, incoming, length);
    if (c->phase == OPEN || c->phase == SYNCED) used += take_frames(g, c, incoming + used, length - used);
    c->in.length = 0;
    if (c->phase != CLOSED && used < length) append(&c->in, incoming + used, length - used);
    else release(&c->in);
}
