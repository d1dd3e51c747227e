// The reader and the maker by themselves, for tests/.
#ifndef SELFTEST_H
#define SELFTEST_H

#include <stdint.h>

// Each line of stdin is an update in hex; each line of stdout its runs as client:start-end, those with a "!" behind
// them that hold something else than `make_update` types, then its deletions as -client:start-end; or "malformed".
int selftest(void);

// As many updates as asked for, one behind the other, in hex.
int print_made(uint32_t client_id, uint32_t count, uint32_t chars);

#endif
