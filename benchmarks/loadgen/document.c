#include "document.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

static bool map_file(const char *path, reader *r) {
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    if (fstat(fd, &about) < 0 || about.st_size == 0) { close(fd); return false; }
    const uint8_t *data = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (data == MAP_FAILED) return false;
    *r = (reader){data, data + about.st_size, false};
    return true;
}

bool load_document(document *d, const char *path) {
    reader r;
    if (!map_file(path, &r)) return false;
    d->typed = read_uint(&r) == 1;
    d->deleted = read_uint(&r);
    uint64_t authors = read_uint(&r);
    if (r.bad || authors == 0 || authors > AUTHORS_MAX) return false;
    d->authors = (uint32_t)authors;
    for (uint32_t i = 0; i < d->authors; i++) d->ends[i] = read_uint(&r);
    uint64_t pieces = read_uint(&r);
    if (r.bad || pieces > (uint64_t)(r.end - r.at)) return false;
    d->pieces = (uint32_t)pieces;
    d->piece = calloc(pieces ? pieces : 1, sizeof *d->piece);
    for (uint32_t i = 0; d->piece && i < d->pieces; i++) {
        d->piece[i].update = read_bytes(&r, &d->piece[i].update_bytes);
        d->piece[i].state = read_bytes(&r, &d->piece[i].state_bytes);
    }
    return d->piece && !r.bad && r.at == r.end;
}

bool is_author(const document *d, uint64_t id) { return id >= DOCUMENT_ID_BASE && id - DOCUMENT_ID_BASE < d->authors; }

const char *note_run(const document *d, progress *p, const typing *found) {
    uint64_t author = found->client - DOCUMENT_ID_BASE, end = found->clock + found->length;
    if (end > d->ends[author]) return "a document with more in it than was written";
    if (found->clock > p->next[author]) return "a document with a hole in it";
    if (d->typed && found->text && !as_made(found)) return "a document whose text is not what was written";
    if (end > p->next[author]) p->next[author] = end;
    return NULL;
}

bool is_complete(const document *d, const progress *p) {
    for (uint32_t i = 0; i < d->authors; i++) {
        if (p->next[i] < d->ends[i]) return false;
    }
    return p->deleted >= d->deleted;
}
