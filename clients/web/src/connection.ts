// One document and its way to the server: the Yjs document, its copy in this browser (y-indexeddb), the stock
// y-websocket provider, and message 102, which tells what is committed. It feeds `state.ts` and reports every change;
// it decides nothing itself.

import * as decoding from "lib0/decoding"
import * as encoding from "lib0/encoding"
import { IndexeddbPersistence } from "y-indexeddb"
import { WebsocketProvider } from "y-websocket"
import * as Y from "yjs"
import { stateOf } from "./people.ts"
import { type Facts, type Happening, START, type Status, after, statusOf } from "./state.ts"

const SYNC = 0
const SYNC_STEP_1 = 0
const SYNC_STATUS = 102
const TOKEN = 103
/** How long the browser's own copy may take before we connect without it. A guess. */
const STORAGE_WITHIN_MS = 3000
/** How long a server may stay silent after a probe before the socket counts as dead. A guess. */
const ANSWER_WITHIN_MS = 3000

export type Report = { readonly status: Status; readonly facts: Facts; readonly kept: boolean }
export type Options = {
  readonly document: string
  readonly token: string | null
  /** Whose copy in this browser; another user of the same browser has another. */
  readonly subject: string
  readonly report: (report: Report) => void
  /** Told when the server has taken the token given to `renew`, and may let us do more or less from now on. */
  readonly renewed: () => void
}

export class Connection {
  readonly doc = new Y.Doc()
  readonly provider: WebsocketProvider
  /** Resolves when the copy in this browser is loaded, or cannot be. */
  readonly loaded: Promise<void>
  readonly #options: Options
  #storage: IndexeddbPersistence | null = null
  #facts = START
  #kept = false
  #probe: ReturnType<typeof setTimeout> | undefined
  readonly #onNetwork = () => this.#checkSocket()

  constructor(options: Options) {
    this.#options = options
    const origin = location.origin.replace(/^http/, "ws")
    this.provider = new WebsocketProvider(`${origin}/yjs`, options.document, this.doc, {
      connect: false,
      // Other tabs hear of edits through the server: what a tab shows as saved must have gone that way.
      disableBc: true,
      ...(options.token === null ? {} : { params: { token: options.token } }),
    })
    this.#listen()
    this.#cleanPresence()
    this.loaded = this.#load().then(() => {
      if (this.#facts.link !== "closed") this.provider.connect()
    })
  }

  get facts(): Facts {
    return this.#facts
  }

  get kept(): boolean {
    return this.#kept
  }

  /** Goes on with a new token of the same user: in this session, and in those after a reconnect. */
  renew(token: string): void {
    this.provider.params = { token }
    this.#sendToken(token)
  }

  close(): void {
    window.removeEventListener("offline", this.#onNetwork)
    window.removeEventListener("online", this.#onNetwork)
    clearTimeout(this.#probe)
    this.provider.destroy()
    void this.#storage?.destroy()
    this.doc.destroy()
  }

  #listen(): void {
    const { provider } = this
    const answer = provider.messageHandlers[SYNC]!
    provider.messageHandlers[SYNC] = (encoder, decoder, owner, emitSynced, type) => {
      const asked = decoder.arr[decoder.pos] === SYNC_STEP_1
      const socket = provider.ws
      answer(encoder, decoder, owner, emitSynced, type)
      // The provider sends its answer when this handler is back, so our version follows it in the next microtask.
      if (asked) queueMicrotask(() => this.#answered(socket))
    }
    provider.messageHandlers[SYNC_STATUS] = (_encoder, decoder) => {
      const payload = decoding.createDecoder(decoding.readVarUint8Array(decoder))
      this.#happen({ type: "acknowledged", version: decoding.readVarUint(payload) })
    }
    provider.on("status", ({ status }) => {
      if (status !== "connected") return
      this.#happen({ type: "opened" })
    })
    // It says how long the new token is good, but nobody here could tell where to get the next one.
    provider.messageHandlers[TOKEN] = () => this.#options.renewed()
    provider.on("sync", (synced) => {
      if (synced) this.#happen({ type: "synced" })
    })
    provider.on("connection-close", () => this.#happen({ type: "lost" }))
    provider.on("closed", ({ code }) => this.#happen({ type: "refused", code }))
    // Registered after the provider's own handler: the update is on its way before its version is.
    this.doc.on("update", (_update: Uint8Array, origin: unknown) => {
      if (origin === provider) return
      this.#happen({ type: "edited" })
      if (this.#facts.answered) this.#announce()
    })
    window.addEventListener("offline", this.#onNetwork)
    window.addEventListener("online", this.#onNetwork)
  }

  /** Before anybody else looks, since peers may fill their states with anything. */
  #cleanPresence(): void {
    const { awareness } = this.provider
    awareness.on("change", ({ added, updated }: { added: number[]; updated: number[] }) => {
      for (const client of [...added, ...updated]) {
        const state = awareness.states.get(client)
        if (client !== awareness.clientID && state !== undefined) awareness.states.set(client, stateOf(state))
      }
    })
  }

  async #load(): Promise<void> {
    try {
      // Asked for by hand first: y-indexeddb never settles when a browser denies it storage.
      await opened(indexedDB.open("collab"))
      const storage = new IndexeddbPersistence(storageName(this.#options.subject, this.#options.document), this.doc)
      this.#storage = storage
      this.#kept = true
      await Promise.race([storage.whenSynced, new Promise((done) => setTimeout(done, STORAGE_WITHIN_MS))])
    } catch {
      this.#kept = false
    }
  }

  #answered(socket: WebSocket | null): void {
    if (socket === null || socket !== this.provider.ws) return
    this.#happen({ type: "answered" })
    this.#announce()
  }

  #announce(): void {
    const socket = this.provider.ws
    if (!this.provider.wsconnected || socket?.readyState !== WebSocket.OPEN) return
    const version = encoding.createEncoder()
    encoding.writeVarUint(version, this.#facts.version)
    const frame = encoding.createEncoder()
    encoding.writeVarUint(frame, SYNC_STATUS)
    encoding.writeVarUint8Array(frame, encoding.toUint8Array(version))
    socket.send(encoding.toUint8Array(frame))
  }

  /** Message 103: goes on with this token. */
  #sendToken(token: string): void {
    const socket = this.provider.ws
    if (socket?.readyState !== WebSocket.OPEN) return
    const frame = encoding.createEncoder()
    encoding.writeVarUint(frame, TOKEN)
    encoding.writeVarString(frame, token)
    socket.send(encoding.toUint8Array(frame))
  }

  /** The browser says the network changed. It does not know about this server, so ask, and believe only silence. */
  #checkSocket(): void {
    clearTimeout(this.#probe)
    if (this.#facts.link !== "open" || !this.#facts.answered) return
    const heard = this.provider.wsLastMessageReceived
    this.#announce()
    this.#probe = setTimeout(() => {
      if (this.#facts.link !== "open" || this.provider.wsLastMessageReceived !== heard) return
      this.provider.disconnect()
      this.provider.connect()
    }, ANSWER_WITHIN_MS)
  }

  #happen(happening: Happening): void {
    this.#facts = after(this.#facts, happening)
    this.#options.report({ status: statusOf(this.#facts), facts: this.#facts, kept: this.#kept })
  }
}

export function storageName(subject: string, document: string): string {
  return `collab/${encodeURIComponent(subject)}/${document}`
}

/** Removes this browser's copy of a document. */
export function forget(subject: string, document: string): void {
  indexedDB.deleteDatabase(storageName(subject, document))
}

function opened(request: IDBOpenDBRequest): Promise<void> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => {
      request.result.close()
      resolve()
    }
    request.onerror = () => reject(request.error)
    request.onblocked = () => reject(new Error("blocked"))
  })
}
