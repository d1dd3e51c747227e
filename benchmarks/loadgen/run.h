// One run, from the first connection to the last figure: JSON lines on stdout.
//
//   {"event":"seeded"}   every room has its document (only with one to upload)       waits for a line on stdin
//   {"event":"synced"}   everybody who does not join late is there
//   {"event":"start"}    measuring begins
//   {"event":"sent"}     everything is sent, slow readers still do not read (--look)  waits for a line on stdin
//   {"event":"stop"}     measuring ended                                              waits for a line on stdin
//   {"event":"result"}   the figures
//
// Where it waits the caller can look at the server; the end of stdin counts as a line.
#ifndef RUN_H
#define RUN_H

#include "loadgen.h"

int perform(options opt, bool look);

#endif
