// Drives stock Yjs clients for the tests: one JSON command per line on stdin, one JSON answer per line on stdout.
//
// A client is a document with an unmodified provider on it. Tests run their own lines of Yjs against it ("run"), or wait
// until an expression over it is true ("until"), so this file knows nothing of what they prove. Every frame that passes
// is kept in the client's log.
import * as readline from 'node:readline'
import * as Y from 'yjs'
import { Awareness } from 'y-protocols/awareness'
import * as awarenessProtocol from 'y-protocols/awareness'
import * as decoding from 'lib0/decoding'
import * as encoding from 'lib0/encoding'
import { WebsocketProvider } from 'y-websocket'
import { createYjsProvider } from '@y-sweet/client'
import WebSocket from 'ws'

console.log = console.warn = console.error

const SYNC = 0
const AWARENESS = 1
const SYNC_STATUS = 102
const POLL_MS = 4
const NOWHERE = 'ws://127.0.0.1:1/' // where a client without a network connects to

const clients = new Map()

const tools = {
  Y,
  WebSocket,
  awarenessProtocol,
  decoding,
  encoding,
  toBase64: bytes => Buffer.from(bytes).toString('base64'),
  fromBase64: text => new Uint8Array(Buffer.from(text, 'base64')),
  canonical,
  pending: doc => doc.store.pendingStructs !== null || doc.store.pendingDs !== null
}

// What one client sent and received. Lists of frames are decoded only as far as tests ask for them.
class Log {
  sent = []
  received = []
  closes = []
  errors = []
  statuses = []
  sockets = []
  localChanges = []
  closed = null
  online = true

  get socket () { return this.sockets.at(-1) }
  get acks () { return this.received.filter(frame => frame[0] === SYNC_STATUS).map(version) }
  get versions () { return this.sent.filter(frame => frame[0] === SYNC_STATUS).map(version) }
  get updates () { return this.received.filter(frame => frame[0] === SYNC && frame[1] === 2).map(payload) }
  get sentUpdates () { return this.sent.filter(frame => frame[0] === SYNC && frame[1] === 2).map(payload) }
  get awareness () { return this.received.filter(frame => frame[0] === AWARENESS) }
}

function version (frame) {
  const decoder = decoding.createDecoder(frame)
  decoding.readVarUint(decoder)
  return decoding.readVarUint(decoding.createDecoder(decoding.readVarUint8Array(decoder)))
}

function payload (frame) {
  return decoding.readVarUint8Array(decoding.createDecoder(frame.subarray(2)))
}

function canonical (doc) {
  return { state: Object.fromEntries(Y.decodeStateVector(Y.encodeStateVector(doc))), deleted: deleted(doc) }
}

function deleted (doc) {
  const ranges = [...Y.createDeleteSetFromStructStore(doc.store).clients].sort(([one], [other]) => one - other)
  return ranges.map(([client, items]) => [client, items.map(item => [item.clock, item.len])])
}

function tapped (log) {
  return class extends WebSocket {
    constructor (url, protocols) {
      super(log.online ? url : NOWHERE, protocols)
      log.sockets.push(this)
      this.on('message', data => log.received.push(new Uint8Array(data)))
      this.on('close', (code, reason) => log.closes.push({ code, reason: String(reason) }))
      this.on('error', error => log.errors.push(String(error.message)))
    }

    send (data) {
      log.sent.push(new Uint8Array(data))
      super.send(data)
    }
  }
}

const providers = {
  'y-websocket' ({ url, document, token, connect }, doc, awareness, log) {
    const provider = new WebsocketProvider(url, document, doc, {
      awareness, connect, params: token ? { token } : {}, WebSocketPolyfill: tapped(log), disableBc: true
    })
    provider.on('status', ({ status }) => log.statuses.push(status))
    provider.on('closed', event => { log.closed = event })
    return provider
  },
  'y-sweet' ({ url, document, token, connect }, doc, awareness, log) {
    const authorize = async () => ({ url, baseUrl: url.replace(/^ws/, 'http'), docId: document, token: token ?? undefined })
    const provider = createYjsProvider(doc, document, authorize, {
      awareness, connect, WebSocketPolyfill: tapped(log), showDebuggerLink: false
    })
    provider.on('connection-status', status => log.statuses.push(status))
    provider.on('local-changes', has => log.localChanges.push(has))
    return provider
  }
}

const commands = {
  open ({ client, kind, clientId, awarenessState, ...rest }) {
    const doc = new Y.Doc()
    if (clientId !== undefined && clientId !== null) doc.clientID = clientId
    const awareness = new Awareness(doc)
    if (awarenessState) awareness.setLocalState(awarenessState)
    const log = new Log()
    const provider = kind === null ? null : providers[kind](rest, doc, awareness, log)
    clients.set(client, { doc, awareness, log, provider, ...tools })
    return doc.clientID
  },
  run ({ client, code, arg }) {
    return compile(code)(clients.get(client), arg)
  },
  async until ({ client, expression, arg, seconds }) {
    const holds = compile(`return (${expression})`)
    const deadline = performance.now() + seconds * 1000
    for (;;) {
      const value = holds(clients.get(client), arg)
      if (value) return value
      if (performance.now() > deadline) throw new Error(`still not: ${expression}\n${describe(clients.get(client))}`)
      await new Promise(resolve => setTimeout(resolve, POLL_MS))
    }
  },
  close ({ client }) {
    const { provider, awareness, doc } = clients.get(client)
    clients.delete(client)
    // y-sweet's destroy() leaves its connect loop running: say first that it is meant to be offline.
    provider?.disconnect()
    provider?.destroy()
    awareness.destroy()
    doc.destroy()
  }
}

function compile (code) {
  const names = ['doc', 'awareness', 'log', 'provider', ...Object.keys(tools)].join(', ')
  return new Function('client', 'arg', `const { ${names} } = client; ${code}`)
}

function describe ({ doc, awareness, log }) {
  const { statuses, closes, errors } = log
  const tail = frames => frames.slice(-5).map(frame => Buffer.from(frame.subarray(0, 60)).toString('hex'))
  const shared = [...doc.share.keys()].map(name => `${name}=${String(doc.share.get(name)).slice(0, 200)}`)
  return JSON.stringify({
    statuses: statuses.slice(-6), closes, errors, shared, present: [...awareness.getStates().keys()],
    sent: tail(log.sent), received: tail(log.received)
  })
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { id, op, ...rest } = JSON.parse(line)
  // Not awaited: a waiting client must not hold up the others.
  Promise.resolve().then(() => commands[op](rest)).then(
    value => answer({ id, value: value ?? null }),
    error => answer({ id, error: String(error?.message ?? error) })
  )
}
process.exit(0)

function answer (message) {
  process.stdout.write(JSON.stringify(message) + '\n')
}
