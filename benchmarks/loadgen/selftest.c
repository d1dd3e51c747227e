#include "selftest.h"

#include <stdio.h>
#include <string.h>

#include "yjs.h"

static void separate(bool *first) {
    if (!*first) putchar(',');
    *first = false;
}

static void print_run(void *context, const typing *found) {
    separate(context);
    printf("%lu:%lu-%lu%s", found->client, found->clock, found->clock + found->length, as_made(found) ? "" : "!");
}

static void print_deletion(void *context, uint64_t client, uint64_t clock, uint64_t length) {
    separate(context);
    printf("-%lu:%lu-%lu", client, clock, clock + length);
}

int selftest(void) {
    static char line[1 << 22];
    static uint8_t data[sizeof line / 2];
    while (fgets(line, sizeof line, stdin)) {
        size_t length = strcspn(line, "\n") / 2;
        for (size_t i = 0; i < length; i++) sscanf(line + 2 * i, "%2hhx", &data[i]);
        bool first = true;
        bool whole = read_update(data, length, print_run, print_deletion, &first);
        printf("%s\n", whole ? "" : "malformed");
    }
    return 0;
}

int print_made(uint32_t client_id, uint32_t count, uint32_t chars) {
    static uint8_t update[UPDATE_BYTES_MAX];
    for (uint32_t i = 0; i < count; i++) {
        size_t length = make_update(update, client_id, i * chars, chars);
        for (size_t at = 0; at < length; at++) printf("%02x", update[at]);
        printf("\n");
    }
    return 0;
}
