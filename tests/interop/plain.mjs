// Stock Yjs for the fuzz of plain updates (tests/attacks/plain): one JSON command per line on stdin, one answer per line.
//
// "make" writes a document the way several honest clients would, "describe" lists what its structs are, and "check"
// gives plain updates to replicas in the orders clients may see them and compares them with each other and with yrs.
import * as readline from 'node:readline'
import * as Y from 'yjs'

console.log = console.warn = console.error

const HONEST_CLIENTS = [0, 1, 7, 200, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32 + 5, 2 ** 35 - 1, 2 ** 53 - 1]
const toBase64 = bytes => Buffer.from(bytes).toString('base64')
const fromBase64 = text => new Uint8Array(Buffer.from(text, 'base64'))

// Honest documents

function random (seed) { // mulberry32
  return below => {
    seed = (seed + 0x6D2B79F5) | 0
    let bits = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits
    return ((bits ^ (bits >>> 14)) >>> 0) % below
  }
}

const edits = {
  text (doc, rng) {
    const text = doc.getText('t')
    text.insert(rng(text.length + 1), ['a', 'bc', 'def', 'longer words', 'é', 'line\n'][rng(6)])
  },
  wide (doc, rng) {
    const text = doc.getText('t')
    text.insert(rng(text.length + 1), ['😀', 'x😀y', '😀😀'][rng(3)])
  },
  erase (doc, rng) {
    const text = doc.getText('t')
    if (text.length) text.delete(rng(text.length), 1)
  },
  format (doc, rng) {
    const text = doc.getText('t')
    if (text.length < 4) return
    text.format(rng(text.length - 3), 1 + rng(3), [{ bold: true }, { bold: null }, { size: 1 + rng(3) }][rng(3)])
  },
  embed (doc, rng) {
    const text = doc.getText('t')
    text.insertEmbed(rng(text.length + 1), { image: 'x' })
  },
  map (doc, rng) {
    const map = doc.getMap('m')
    const value = [1, 'two', [3, { four: 5 }], null, true, new Y.Text('in a map'), new Y.Map([['k', 'v']])][rng(7)]
    if (rng(5) === 0) map.delete('xyz'[rng(3)])
    else map.set('xyz'[rng(3)], value)
  },
  inMap (doc, rng) {
    const texts = [...doc.getMap('m').values()].filter(value => value instanceof Y.Text)
    if (texts.length) texts[rng(texts.length)].insert(0, 'deep')
  },
  array (doc, rng) {
    const array = doc.getArray('a')
    if (array.length > 3 && rng(3) === 0) array.delete(rng(array.length), 1)
    const value = [0, 'one', new Y.Map([['nested', 'map']]), new Y.Text('in an array'), [1, 2]][rng(5)]
    array.insert(rng(array.length + 1), rng(3) === 0 ? ['some', 'values', 3] : [value])
  },
  xml (doc, rng) {
    const root = doc.getXmlFragment('x')
    if (root.length > 2 && rng(4) === 0) root.delete(rng(root.length), 1)
    const paragraph = new Y.XmlElement('paragraph')
    paragraph.setAttribute('level', String(rng(4)))
    const word = new Y.XmlText('word')
    paragraph.insert(0, [word])
    if (rng(3) === 0) {
      const list = new Y.XmlElement('list')
      list.insert(0, [paragraph])
      root.insert(rng(root.length + 1), [list])
    } else root.insert(rng(root.length + 1), [paragraph])
    if (rng(2)) word.format(1, 2, { bold: {} })
  },
  attribute (doc, rng) {
    const elements = doc.getXmlFragment('x').toArray().filter(node => node instanceof Y.XmlElement)
    if (elements.length) elements[rng(elements.length)].setAttribute('level', String(rng(9)))
  }
}

const SHAPES = {
  plain: ['text', 'text', 'erase'],
  formatted: ['text', 'text', 'erase', 'format', 'format', 'embed'],
  wide: ['text', 'wide', 'wide', 'erase', 'format'],
  maps: ['map', 'map', 'inMap'],
  arrays: ['array'],
  xml: ['xml', 'xml', 'attribute'],
  all: Object.keys(edits).filter(name => name !== 'wide')
}

function make ({ seed, shape }) {
  const rng = random(seed)
  const docs = Array.from({ length: 1 + rng(4) }, () => new Y.Doc({ gc: true }))
  docs.forEach((doc, index) => { doc.clientID = HONEST_CLIENTS[(seed + index * 3) % HONEST_CLIENTS.length] })
  const pull = (to, from) => Y.applyUpdate(to, Y.encodeStateAsUpdate(from, Y.encodeStateVector(to)))
  for (let edit = 10 + rng(40); edit > 0; edit--) {
    const doc = docs[rng(docs.length)]
    edits[SHAPES[shape][rng(SHAPES[shape].length)]](doc, rng)
    if (rng(3) === 0) pull(docs[rng(docs.length)], doc)
  }
  for (const doc of docs) pull(docs[0], doc)
  return toBase64(Y.encodeStateAsUpdate(docs[0]))
}

// What a document is made of

function open (base) {
  const doc = new Y.Doc()
  doc.clientID = 2 ** 53 - 2 // never a writer's: Yjs would take another id in the middle of a run
  doc.getText('t')
  doc.getMap('m')
  doc.getArray('a')
  doc.getXmlFragment('x')
  // Formatting marks that became useless are deleted by every client on its own; no two need agree on when.
  doc.cleaned = []
  doc.on('afterTransaction', transaction => {
    if (!transaction.local) return
    for (const [client, ranges] of transaction.deleteSet.clients) for (const { clock, len } of ranges) doc.cleaned.push([client, clock, len])
  })
  for (const update of base) Y.applyUpdate(doc, fromBase64(update))
  return doc
}

function describe ({ base }) {
  const doc = open(base)
  const parents = new Map()
  const numberOf = parent => {
    if (!parents.has(parent)) parents.set(parent, parents.size * 100)
    return parents.get(parent)
  }
  const keys = []
  const structs = []
  for (const [client, list] of doc.store.clients) {
    for (const struct of list) {
      if (struct instanceof Y.GC) {
        structs.push([client, struct.id.clock, struct.length, 'gc', -1, 0])
        continue
      }
      const entry = struct.parentSub !== null
      if (entry && !keys.includes(struct.parentSub)) keys.push(struct.parentSub)
      const home = numberOf(struct.parent) + (entry ? 1 + keys.indexOf(struct.parentSub) : 0)
      let position = 0
      for (let left = struct.left; left !== null; left = left.left) position++
      const content = struct.deleted ? 'deleted' : struct.content.constructor.name.slice(7).toLowerCase()
      const kind = (struct.parent._item?.deleted ? 'buried ' : '') + (entry ? 'entry ' : '') + content
      structs.push([client, struct.id.clock, struct.length, kind, home, position])
    }
  }
  return structs
}

// Views: what replicas are compared by

function canonical (value) {
  if (Array.isArray(value)) return value.map(canonical)
  if (value instanceof Uint8Array) return [...value]
  if (value === null || typeof value !== 'object') return value === undefined ? null : value
  return Object.fromEntries(Object.keys(value).sort().map(key => [key, canonical(value[key])]))
}

function runs (delta) {
  const joined = []
  for (const [value, attributes] of delta) {
    const last = joined.at(-1)
    const marks = JSON.stringify(canonical(attributes ?? {}))
    if (last && typeof last[0] === 'string' && typeof value === 'string' && last[1] === marks) last[0] += value
    else joined.push([canonical(value), marks])
  }
  return joined
}

function view (doc) {
  return {
    t: runs(doc.getText('t').toDelta().map(({ insert, attributes }) => [insert, attributes])),
    m: canonical(doc.getMap('m').toJSON()),
    a: canonical(doc.getArray('a').toJSON()),
    x: doc.getXmlFragment('x').toString()
  }
}

const viewOfYrs = ({ t, m, a, x }) => ({ t: runs(t), m: canonical(m), a: canonical(a), x })

function clocks (doc) {
  return JSON.stringify([...Y.decodeStateVector(Y.encodeStateVector(doc))].sort(([one], [other]) => one - other))
}

function without (ranges, cut) {
  let left = ranges
  for (const [start, end] of cut) {
    left = left.flatMap(([from, to]) => [[from, Math.min(to, start)], [Math.max(from, end), to]].filter(([a, b]) => a < b))
  }
  return left
}

function deletions (doc, cleaned) {
  const all = []
  for (const [client, items] of Y.createDeleteSetFromStructStore(doc.store).clients) {
    const cut = cleaned.filter(([other]) => other === client).map(([, clock, len]) => [clock, clock + len])
    const merged = []
    for (const [start, end] of without(items.map(({ clock, len }) => [clock, clock + len]), cut)) {
      if (merged.length && merged.at(-1)[1] === start) merged.at(-1)[1] = end
      else merged.push([start, end])
    }
    if (merged.length) all.push([client, merged])
  }
  return JSON.stringify(all.sort(([one], [other]) => one - other))
}

function differences (one, other) {
  if (clocks(one) !== clocks(other)) return ['clocks', clocks(one), clocks(other)]
  const cleaned = [...one.cleaned, ...other.cleaned]
  const [deleted, deletedThere] = [deletions(one, cleaned), deletions(other, cleaned)]
  if (deleted !== deletedThere) return ['deletions', deleted, deletedThere]
  return differentViews(view(one), view(other))
}

function differentViews (one, other) {
  for (const root of Object.keys(one)) {
    const [here, there] = [JSON.stringify(one[root]), JSON.stringify(other[root])]
    if (here !== there) return [`content of ${root}`, here, there]
  }
  return null
}

// Checking

// What went wrong with one program: of each kind the first, and the index of the update it was seen at.
class Findings {
  list = []

  add (kind, detail, at) {
    if (!this.list.some(found => found.kind === kind)) this.list.push({ kind, at, detail: detail.slice(0, 2000) })
  }

  differ (kind, found, at) {
    if (found) this.add(`${kind}: ${found[0]}`, `${found[1]}\n${found[2]}`, at)
  }
}

// A replica that is of no use any more after Yjs threw.
class Replica {
  constructor (findings, kind, base, { watched = false } = {}) {
    Object.assign(this, { findings, kind, broken: false, doc: open(base) })
    if (watched) watch(this.doc)
  }

  apply (update, at) {
    if (this.broken) return
    try {
      Y.applyUpdate(this.doc, update)
    } catch (error) {
      this.broken = true
      this.findings.add(`yjs throws ${this.kind}: ${error.message} in ${where(error)}`, String(error.stack), at)
      return
    }
    if (this.doc.store.pendingStructs !== null || this.doc.store.pendingDs !== null) {
      this.findings.add(`yjs has something pending ${this.kind}`, '', at)
    }
  }

  compare (live, at) {
    if (!this.broken && !live.broken) this.findings.differ(`yjs differs ${this.kind}`, differences(live.doc, this.doc), at)
  }
}

// The first function of Yjs's own on the stack.
function where (error) {
  const frames = error.stack.split('\n').filter(line => line.trim().startsWith('at ') && !line.includes('/lib0/'))
  return frames.length ? frames[0].trim().split(' ')[1] : 'nowhere'
}

// An editor that binds to a document reads what its events say.
function watch (doc) {
  const read = events => {
    for (const event of events) JSON.stringify([event.changes.delta, [...event.changes.keys], event.path])
  }
  for (const root of [doc.getText('t'), doc.getMap('m'), doc.getArray('a'), doc.getXmlFragment('x')]) root.observeDeep(read)
}

// `order` lists the indexes of the updates as another client may see them; `yrs` is what the engine's side answered.
function check ({ base, batches, order, yrs }) {
  const findings = new Findings()
  const updates = batches.flat().map(fromBase64)
  const whole = (kind, update, live, at) => {
    const replica = new Replica(findings, kind, [])
    replica.apply(update, at)
    replica.compare(live, at)
  }
  const differ = (kind, live, theirs, at) => {
    if (!live.broken && theirs.view) findings.differ(kind, differentViews(view(live.doc), viewOfYrs(theirs.view)), at)
  }
  const live = new Replica(findings, 'live', base)
  const merged = new Replica(findings, 'when yjs merged each batch', base)
  const relayed = new Replica(findings, 'when yrs merged each batch', base)
  let at = 0
  batches.forEach((batch, number) => {
    const start = at
    for (const update of updates.slice(start, start + batch.length)) {
      live.apply(update, at++)
    }
    merged.apply(Y.mergeUpdates(updates.slice(start, at)), at)
    const theirs = yrs.batches[number]
    if (theirs === undefined) return
    relayed.apply(fromBase64(theirs.merged), at)
    differ('yjs and yrs differ', live, theirs, at)
    whole('with what yrs stores', fromBase64(theirs.full), live, at)
  })
  merged.compare(live, null)
  if (yrs.batches.length === batches.length) relayed.compare(live, null)
  for (const [name, theirs] of [['loads', yrs.cold], ['gets merged', yrs.far]]) {
    if (!theirs) continue
    whole(`with what yrs ${name}`, fromBase64(theirs.full), live, null)
    differ(`yjs and yrs differ, which ${name}`, live, theirs, null)
  }
  whole('merged with the past', Y.mergeUpdates([...base.map(fromBase64), ...updates]), live, null)
  const other = new Replica(findings, 'watched in another order', base, { watched: true })
  for (const index of order) other.apply(updates[index], index)
  other.compare(live, null)
  return findings.list
}

const commands = { make, describe, check }

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { op, ...rest } = JSON.parse(line)
  process.stdout.write(JSON.stringify(commands[op](rest)) + '\n')
}
