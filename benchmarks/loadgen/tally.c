// What came, what is missing, and the figures printed at the end.
#include <stdio.h>

#include "loadgen.h"

void took_updates(run *g, client *c, uint32_t slot, uint32_t first, uint32_t end) {
    const source *s = &g->updates[c->room * g->opt.clients + slot];
    c->updates_seen += end - first;
    if (c->late || c->stalled) return;              // what they see late is theirs to bear, and not a latency
    for (uint32_t i = first; i < end; i++) {
        if (i < s->measured_from) continue;
        g->update.delivered_measured++;
        observe(&g->update.latency[reach_of(g, slot, c->slot)], g->received_us - s->sent_us[i]);
    }
}

void took_entry(run *g, client *c, uint32_t slot, uint32_t clock) {
    const source *s = &g->entries[c->room * g->opt.clients + slot];
    uint32_t *last = &c->entry_last[slot];
    c->entries_seen += clock - *last;
    if (!c->late && !c->stalled) {
        for (uint32_t i = *last + 1; i < clock; i++) g->entry.skipped_measured += i >= s->measured_from;
        if (clock >= s->measured_from) {
            g->entry.delivered_measured++;
            observe(&g->entry.latency[reach_of(g, slot, c->slot)], g->received_us - s->sent_us[clock]);
        }
    }
    *last = clock;
}

void took_acknowledgements(run *g, client *c, uint32_t end) {
    source *s = &g->updates[c - g->clients];
    if (end > s->next) { fault(g, "an acknowledgement of what was never sent"); return; }
    for (; s->acknowledged < end; s->acknowledged++) {
        if (s->acknowledged >= s->measured_from) observe(&g->acknowledgement, g->received_us - s->sent_us[s->acknowledged]);
    }
}

// What the others of each room sent and these clients have not seen.
static uint64_t missing(const run *g, const source *sources, uint32_t first, bool entries, bool stalled) {
    uint64_t lacking = 0;
    for (uint32_t room = 0; room < g->opt.rooms; room++) {
        uint64_t sent = 0;
        uint32_t base = room * g->opt.clients;
        for (uint32_t i = 0; i < g->opt.clients; i++) sent += sources[base + i].next - first;
        for (uint32_t i = 0; i < g->opt.clients; i++) {
            const client *c = &g->clients[base + i];
            if (c->stalled != stalled) continue;
            lacking += sent - (sources[base + i].next - first) - (entries ? c->entries_seen : c->updates_seen);
        }
    }
    return lacking;
}

uint64_t missing_updates(const run *g, bool stalled) { return missing(g, g->updates, 0, false, stalled); }
uint64_t missing_entries(const run *g) { return missing(g, g->entries, 1, true, false); }

uint64_t missing_acknowledgements(const run *g) {
    uint64_t lacking = 0;
    for (uint32_t i = 0; g->opt.acknowledged && i < g->count; i++) lacking += g->updates[i].next - g->updates[i].acknowledged;
    return lacking;
}

// Clients that have not got the whole document: where it is pasted, everything pasted so far.
uint32_t missing_documents(const run *g) {
    uint32_t lacking = 0;
    for (uint32_t i = 0; g->opt.use != NO_DOCUMENT && i < g->count; i++) {
        const client *c = &g->clients[i];
        if (!gets_document(g, c)) continue;
        if (g->opt.use == PASTE && g->pasted < g->opt.document.pieces) {
            for (uint32_t k = 0; k < g->pasted; k++) {
                if (c->document.next[k] < g->opt.document.ends[k]) { lacking++; break; }
            }
        } else {
            lacking += !is_complete(&g->opt.document, &c->document);
        }
    }
    return lacking;
}

static void print_latency(const char *name, const histogram *h) {
    printf(",\"%s\":{\"count\":%lu,\"mean\":%.4f,\"p50\":%.4f,\"p90\":%.4f,\"p99\":%.4f,\"max\":%.4f}", name, h->count,
           h->count ? (double)h->sum_us / (double)h->count / 1e3 : 0, percentile(h, .5) / 1e3, percentile(h, .9) / 1e3,
           percentile(h, .99) / 1e3, (double)h->max_us / 1e3);
}

static uint32_t lost_stalled(const run *g) {
    uint32_t lost = 0;
    for (uint32_t i = 0; i < g->count; i++) lost += g->clients[i].stalled && g->clients[i].phase == CLOSED;
    return lost;
}

void print_result(const run *g, double window_s, double cpu_s, double recovered_s) {
    static histogram updates, entries, by_reach[REACHES], all;
    uint64_t sent = 0, sent_entries = 0;
    for (int way = 0; way < REACHES; way++) {
        add(&updates, &g->update.latency[way]);
        add(&entries, &g->entry.latency[way]);
        add(&by_reach[way], &g->update.latency[way]);
        add(&by_reach[way], &g->entry.latency[way]);
        add(&all, &by_reach[way]);
    }
    for (uint32_t i = 0; i < g->count; i++) {
        sent += g->updates[i].next - g->updates[i].measured_from;
        sent_entries += g->entries[i].next - g->entries[i].measured_from;
    }
    printf("{\"event\":\"result\",\"window_s\":%.6f,\"generator_cpu_s\":%.6f", window_s, cpu_s);
    printf(",\"updates_sent\":%lu,\"entries_sent\":%lu", sent, sent_entries);
    printf(",\"update_deliveries\":%lu,\"entry_deliveries\":%lu", g->update.delivered_measured, g->entry.delivered_measured);
    printf(",\"entries_skipped\":%lu,\"updates_missing\":%lu,\"entries_missing\":%lu", g->entry.skipped_measured,
           missing_updates(g, false), missing_entries(g));
    printf(",\"updates_overtaken\":%lu", g->overtaken);
    printf(",\"connections_lost\":%u,\"protocol_errors\":%lu", g->lost, g->protocol_errors);
    printf(",\"first_error\":%s%s%s", g->first_error ? "\"" : "", g->first_error ? g->first_error : "null", g->first_error ? "\"" : "");
    printf(",\"acknowledgements\":%lu,\"acknowledgements_missing\":%lu", g->acknowledgements, missing_acknowledgements(g));
    printf(",\"own_echoes\":%lu", g->update.own_echoes + g->entry.own_echoes);
    printf(",\"late_joined\":%u,\"late_missing\":%u", g->late_synced, g->opt.late * g->opt.rooms - g->late_synced);
    printf(",\"documents_missing\":%u,\"pasted\":%u", missing_documents(g), g->pasted);
    printf(",\"stalled_missing\":%lu,\"stalled_lost\":%u,\"stalled_recovered_s\":%.4f", missing_updates(g, true), lost_stalled(g), recovered_s);
    printf(",\"frames_in\":%lu,\"bytes_in\":%lu,\"frames_out\":%lu,\"bytes_out\":%lu", g->frames_in, g->bytes_in, g->frames_out, g->bytes_out);
    print_latency("latency_ms", &all);
    print_latency("update_ms", &updates);
    print_latency("entry_ms", &entries);
    print_latency("same_node_ms", &by_reach[SAME_NODE]);
    print_latency("other_node_ms", &by_reach[OTHER_NODE]);
    print_latency("acknowledged_ms", &g->acknowledgement);
    print_latency("join_ms", &g->join);
    print_latency("behind_ms", &g->behind);
    printf("}\n");
}
