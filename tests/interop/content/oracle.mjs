// Answers questions about documents with the editors' own code: one JSON question a line in, one JSON answer a line out.
import { createInterface } from 'node:readline'
import { getSchema, Mark } from '@tiptap/core'
import Image from '@tiptap/extension-image'
import { TaskItem, TaskList } from '@tiptap/extension-list'
import { TableKit } from '@tiptap/extension-table'
import StarterKit from '@tiptap/starter-kit'
import * as tiptap from '@tiptap/y-tiptap'
import * as stock from 'y-prosemirror'
import * as Y from 'yjs'

// Marks that may overlap themselves, as comments do; StarterKit has none.
const Comment = Mark.create({
  name: 'comment',
  excludes: '',
  addAttributes: () => ({ id: { default: null }, by: { default: null } }),
})
const schema = getSchema([Comment, StarterKit, Image, TaskList, TaskItem.configure({ nested: true }), TableKit])

const open = (update) => {
  const doc = new Y.Doc()
  Y.applyUpdate(doc, Buffer.from(update, 'base64'))
  if (doc.store.pendingStructs || doc.store.pendingDs) throw new Error('the update is not complete')
  return doc
}

const encode = (doc) => Buffer.from(Y.encodeStateAsUpdate(doc)).toString('base64')

// A seeded generator (mulberry32), so that a failing history can be made again.
const generator = (seed) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

const edit = (doc, random) => {
  const below = (n) => Math.floor(random() * n)
  const text = doc.getText('text')
  const fragment = doc.getXmlFragment('default')
  const map = doc.getMap('map')
  const array = doc.getArray('array')
  const word = () => ['a', 'bc', 'd😀e', 'ß', 'xyz ', '\n'][below(6)]
  switch (below(9)) {
    case 0: return text.insert(below(text.length + 1), word())
    case 1: return text.insert(below(text.length + 1), word(), [{ bold: true }, { link: { href: 'x' } }, {}][below(3)])
    case 2: return text.length && text.delete(below(text.length), 1 + below(3) > text.length ? 0 : 1)
    case 3: return text.length > 2 && text.format(below(text.length - 1), 1, [{ bold: true }, { bold: null }, { italic: {} }][below(3)])
    case 4: {
      const element = new Y.XmlElement(['paragraph', 'heading'][below(2)])
      if (below(2)) element.setAttribute('level', below(3) + 1)
      const inner = new Y.XmlText()
      inner.insert(0, word(), below(2) ? { bold: {} } : {})
      element.insert(0, [inner])
      return fragment.insert(below(fragment.length + 1), [element])
    }
    case 5: return fragment.length && fragment.delete(below(fragment.length), 1)
    case 6: {
      if (!fragment.length) return
      const element = fragment.get(below(fragment.length))
      if (below(3) === 0) return element.setAttribute('level', below(5))
      const inner = element.get(0)
      return inner.insert(below(inner.length + 1), word())
    }
    case 7: return below(4) ? map.set('k' + below(3), [below(9), 'v', { n: 1.5, deep: [null, true] }, new Y.Array()][below(4)]) : map.delete('k' + below(3))
    default: return array.length && below(3) === 0 ? array.delete(below(array.length), 1) : array.insert(below(array.length + 1), [below(100), { x: word() }])
  }
}

const questions = {
  // What stock code makes of an XmlFragment, by both bindings and by the editor's schema.
  prosemirror: ({ update, root }) => {
    const doc = open(update)
    return {
      stock: stock.yDocToProsemirrorJSON(doc, root),
      tiptap: tiptap.yDocToProsemirrorJSON(doc, root),
    }
  },
  // Whether Tiptap's schema takes it whole: y-tiptap deletes what the schema refuses.
  schema: ({ update, root }) => {
    const doc = open(update)
    const before = JSON.stringify(tiptap.yDocToProsemirrorJSON(doc, root))
    const node = tiptap.yXmlFragmentToProseMirrorRootNode(doc.getXmlFragment(root), schema)
    node.check()
    const kept = JSON.stringify(tiptap.yDocToProsemirrorJSON(doc, root)) === before
    return { kept, json: node.toJSON() }
  },
  // Stock code composes: the same content as an editor would have stored it.
  compose: ({ json, root }) => encode(tiptap.prosemirrorJSONToYDoc(schema, json, root)),
  // The names under which formatting is stored in the first text of the fragment's first element.
  formats: ({ update, root }) => {
    const text = open(update).getXmlFragment(root).get(0).get(0)
    return text.toDelta().flatMap((op) => Object.keys(op.attributes ?? {})).sort()
  },
  plain: ({ update }) => {
    const doc = open(update)
    return {
      text: doc.getText('text').toString(),
      delta: doc.getText('text').toDelta(),
      default: tiptap.yDocToProsemirrorJSON(doc, 'default'),
      map: doc.getMap('map').toJSON(),
      array: doc.getArray('array').toJSON(),
    }
  },
  // Three replicas edit at the same time, exchange at random and meet at the end: [update in the middle, at the end].
  history: ({ seed, steps }) => {
    const random = generator(seed)
    const docs = [0, 1, 2].map((n) => { const doc = new Y.Doc(); doc.clientID = 1000 + n * 7 + (seed % 5); return doc })
    const meet = () => {
      for (const from of docs) for (const to of docs) {
        if (from !== to) Y.applyUpdate(to, Y.encodeStateAsUpdate(from, Y.encodeStateVector(to)))
      }
    }
    let middle
    for (let step = 0; step < steps; step++) {
      edit(docs[Math.floor(random() * 3)], random)
      if (random() < 0.1) meet()
      if (step === steps >> 1) { meet(); middle = encode(docs[0]) }
    }
    meet()
    return [middle, encode(docs[0])]
  },
  // Applies a change in an editor that was open all along.
  apply: ({ update, change }) => {
    const doc = open(update)
    Y.applyUpdate(doc, Buffer.from(change, 'base64'))
    if (doc.store.pendingStructs || doc.store.pendingDs) throw new Error('the change is not complete')
    return encode(doc)
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { question, ...about } = JSON.parse(line)
  try {
    console.log(JSON.stringify({ answer: questions[question](about) }))
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }))
  }
}
