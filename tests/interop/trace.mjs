// Replays a keystroke trace through stock y-websocket clients against a running server, one transaction a patch.
//
// Writers take turns of TURN patches: the next one begins when it has everything the one before wrote, so the trace's
// positions stay true. Each writer sends a message 102 every STATUS_EVERY patches (as y-sweet's client does after each)
// and keeps at most `window` patches unacknowledged. Prints one JSON line with what it measured.
import { readFileSync } from 'node:fs'
import * as Y from 'yjs'
import * as encoding from 'lib0/encoding'
import * as decoding from 'lib0/decoding'
import { WebsocketProvider } from 'y-websocket'
import WebSocket from 'ws'

const TURN = 2000
const STATUS_EVERY = 8
const SYNC_STATUS = 102
const { url, document, patches: file, clients: count, window, rate } = JSON.parse(process.argv[2])
const { startContent, endContent, patches } = JSON.parse(readFileSync(file, 'utf8'))

class Writer {
  version = 0
  acked = 0
  sentAt = new Map()
  latencies = []
  wake = null
  closes = []

  constructor () {
    this.doc = new Y.Doc()
    this.text = this.doc.getText('t')
    this.provider = new WebsocketProvider(url, document, this.doc, { WebSocketPolyfill: WebSocket, disableBc: true })
    // The stock provider has no handler for 102: this is the documented way to add one.
    this.provider.messageHandlers[SYNC_STATUS] = (_encoder, decoder) => {
      this.acknowledged(decoding.readVarUint(decoding.createDecoder(decoding.readVarUint8Array(decoder))))
    }
    this.provider.on('connection-close', event => this.closes.push(event?.code ?? null))
  }

  acknowledged (version) {
    const now = performance.now()
    for (const [sent, at] of this.sentAt) {
      if (sent > version) break
      this.latencies.push(now - at)
      this.sentAt.delete(sent)
    }
    this.acked = Math.max(this.acked, version)
    this.wake?.()
  }

  status () {
    const inner = encoding.createEncoder()
    encoding.writeVarUint(inner, this.version)
    const encoder = encoding.createEncoder()
    encoding.writeVarUint(encoder, SYNC_STATUS)
    encoding.writeVarUint8Array(encoder, encoding.toUint8Array(inner))
    this.sentAt.set(this.version, performance.now())
    this.provider.ws.send(encoding.toUint8Array(encoder))
  }

  write ([position, deleted, inserted]) {
    this.doc.transact(() => {
      if (deleted) this.text.delete(position, deleted)
      if (inserted) this.text.insert(position, inserted)
    })
    this.version++
    if (this.version % STATUS_EVERY === 0) this.status()
  }

  async until (holds) {
    while (!holds()) {
      await new Promise(resolve => {
        const timer = setTimeout(resolve, 20)
        this.wake = () => { clearTimeout(timer); resolve() }
      })
    }
    this.wake = null
  }
}

const writers = Array.from({ length: count }, () => new Writer())
for (const writer of writers) await writer.until(() => writer.provider.synced)
if (startContent) writers[0].text.insert(0, startContent)
const everybodyHas = clocks => writer => [...clocks].every(([id, clock]) => Y.getState(writer.doc.store, id) >= clock)
const clocks = () => new Map(writers.map(writer => [writer.doc.clientID, Y.getState(writer.doc.store, writer.doc.clientID)]))

const started = performance.now()
for (let turn = 0; turn * TURN < patches.length; turn++) {
  const writer = writers[turn % count]
  // Insertions are seen in clocks; deletions of the turn before are known once its writer's last status was answered.
  const before = clocks()
  await writer.until(() => everybodyHas(before)(writer) && writer.text.length === writers[(turn + count - 1) % count].text.length)
  for (let at = turn * TURN; at < Math.min(patches.length, (turn + 1) * TURN); at++) {
    if (writer.version - writer.acked >= window) await writer.until(() => writer.version - writer.acked < window)
    else if (at % 64 === 0) await new Promise(resolve => setImmediate(resolve)) // let sockets breathe
    if (rate) await writer.until(() => performance.now() - started >= at / rate * 1000)
    writer.write(patches[at])
  }
  writer.status()
  await writer.until(() => writer.acked === writer.version)
}
const seconds = (performance.now() - started) / 1000
for (const writer of writers) await writer.until(() => writer.text.length === endContent.length)

const latencies = writers.flatMap(writer => writer.latencies).sort((one, other) => one - other)
const percentile = share => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))]
console.log(JSON.stringify({
  patches: patches.length,
  seconds,
  ackMs: { p50: percentile(0.5), p99: percentile(0.99), max: percentile(1), samples: latencies.length },
  right: writers.map(writer => writer.text.toString() === endContent),
  closes: writers.flatMap(writer => writer.closes),
  memoryMiB: process.memoryUsage().rss / 2 ** 20
}))
process.exit(0)
