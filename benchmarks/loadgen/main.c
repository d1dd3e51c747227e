// The load generator: opens every client, sends made-up typing and cursor moves at a planned pace, reads everything
// that comes back, and prints what happened as JSON lines (run.h). One thread, one epoll; benchmarks/load.py starts it.
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "selftest.h"

// The ports of the nodes, separated by commas.
static void take_ports(options *o, const char *value) {
    for (o->nodes = 0; *value && o->nodes < NODES_MAX; value += *value == ',') {
        o->ports[o->nodes++] = (int)strtol(value, (char **)&value, 10);
        if (*value && *value != ',') die("ports are numbers, separated by commas");
    }
    if (*value || o->nodes == 0) die("between one port and eight");
}

static document_use use_named(const char *name) {
    if (!strcmp(name, "upload")) return UPLOAD;
    if (!strcmp(name, "expect")) return EXPECT;
    if (!strcmp(name, "paste")) return PASTE;
    die("a document is there to upload, expect or paste");
    return NO_DOCUMENT;
}

static bool take_count(options *o, const char *name, const char *value) {
    const struct { const char *name; uint32_t *at; } counts[] = {
        {"--rooms", &o->rooms}, {"--clients", &o->clients}, {"--writers", &o->writers}, {"--late", &o->late},
        {"--stalled", &o->stalled}, {"--update-chars", &o->update_chars}, {"--opening", &o->opening_max},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (strcmp(name, counts[i].name)) continue;
        *counts[i].at = (uint32_t)atol(value);
        return true;
    }
    return false;
}

static bool take_number(options *o, const char *name, const char *value) {
    const struct { const char *name; double *at; } numbers[] = {
        {"--update-rate", &o->update_rate}, {"--cursor-rate", &o->cursor_rate}, {"--warmup", &o->warmup_s},
        {"--seconds", &o->seconds}, {"--drain", &o->drain_s}, {"--late-at", &o->late_at_s},
        {"--connect-timeout", &o->connect_timeout_s}, {"--join-timeout", &o->join_timeout_s},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (strcmp(name, numbers[i].name)) continue;
        *numbers[i].at = atof(value);
        return true;
    }
    return false;
}

static bool take(options *o, bool *look, const char *name, const char *value) {
    if (take_count(o, name, value) || take_number(o, name, value)) return true;
    if (!strcmp(name, "--dialect")) o->dialect = strcmp(value, "hocuspocus") ? DIALECT_YWS : DIALECT_HOCUSPOCUS;
    else if (!strcmp(name, "--ports")) take_ports(o, value);
    else if (!strcmp(name, "--path")) o->path = value;
    else if (!strcmp(name, "--run")) o->run = value;
    else if (!strcmp(name, "--until-joined")) o->until_joined = atoi(value);
    else if (!strcmp(name, "--first-alone")) o->first_alone = atoi(value);
    else if (!strcmp(name, "--acknowledged")) o->acknowledged = atoi(value);
    else if (!strcmp(name, "--look")) *look = atoi(value);
    else if (!strcmp(name, "--use")) o->use = use_named(value);
    else if (!strcmp(name, "--document")) {
        if (!load_document(&o->document, value)) die("a document that cannot be read");
    } else return false;
    return true;
}

int main(int argc, char **argv) {
    options o = {.nodes = 1, .path = "/", .run = "run", .rooms = 1, .clients = 2, .writers = 1, .update_chars = 1, .seconds = 1,
                 .drain_s = 5, .connect_timeout_s = 60, .join_timeout_s = 60, .opening_max = 64};
    bool look = false;
    if (argc == 2 && !strcmp(argv[1], "--selftest")) return selftest();
    if (argc == 5 && !strcmp(argv[1], "--make")) return print_made((uint32_t)atol(argv[2]), (uint32_t)atol(argv[3]), (uint32_t)atol(argv[4]));
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 >= argc || !take(&o, &look, argv[i], argv[i + 1])) die("an option that is unknown or lacks its value");
    }
    if (o.writers > o.clients || o.clients == 0 || o.rooms == 0) die("writers must be among at least one client");
    if (o.writers + o.late + o.stalled > o.clients) die("writers, those who stop reading and those who come late are different clients");
    if (o.update_chars == 0 || o.update_chars > UPDATE_CHARS_MAX) die("an update of more letters than fit");
    if ((o.use != NO_DOCUMENT) != (o.document.authors > 0)) die("a document and its use come together");
    return perform(o, look);
}
