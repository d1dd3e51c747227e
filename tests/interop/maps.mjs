// Prints, as JSON, what stock Yjs writes for documents with maps and attributes: a list of updates in hex for each shape.
//
// Three clients edit in turn and hear of each other now and then, so most updates lean on what others wrote; whole states
// are among the updates, too, written before and after what was deleted is collected.
import * as Y from 'yjs'

const SHAPES = {
  // Tiptap: paragraphs and headings of an XML fragment, attributes overwritten, marks in XML text.
  tiptap (doc, rng) {
    const body = doc.getXmlFragment('default')
    const node = body.length > 0 ? body.get(rng(body.length)) : null
    if (node === null || rng(4) === 0) {
      const paragraph = new Y.XmlElement(rng(3) ? 'paragraph' : 'heading')
      paragraph.setAttribute('textAlign', 'left')
      paragraph.setAttribute('level', rng(3))
      paragraph.insert(0, [new Y.XmlText('word')])
      body.insert(rng(body.length + 1), [paragraph])
    } else if (rng(3) === 0) {
      node.setAttribute(['level', 'textAlign'][rng(2)], rng(9))
    } else if (rng(8) === 0) {
      node.removeAttribute('level')
    } else if (rng(9) === 0) {
      body.delete(rng(body.length), 1)
    } else {
      const text = node.get(0)
      text.insert(rng(text.length + 1), ['a', 'bc', 'é'][rng(3)])
      if (rng(3) === 0) text.format(0, 1 + rng(text.length), [{ bold: {} }, { link: { href: 'x' } }, { bold: null }][rng(3)])
    }
  },
  // BlockNote: containers in groups in containers, each with an id and properties, moved by deleting and inserting.
  blocknote (doc, rng) {
    const root = doc.getXmlFragment('document-store')
    if (root.length === 0) root.insert(0, [new Y.XmlElement('blockGroup')])
    let group = root.get(0)
    while (group.length > 0 && rng(2)) {
      const container = group.get(rng(group.length))
      if (container.length < 2) container.push([new Y.XmlElement('blockGroup')])
      group = container.get(1)
    }
    if (group.length > 3 && rng(2)) return group.delete(rng(group.length), 1)
    if (group.length > 0 && rng(3)) {
      const content = group.get(rng(group.length)).get(0)
      content.setAttribute('textColor', ['red', 'blue', 'default'][rng(3)])
      return content.get(0).insert(0, 'typed ')
    }
    const container = new Y.XmlElement('blockContainer')
    container.setAttribute('id', String(rng(1e9)))
    const content = new Y.XmlElement('paragraph')
    content.setAttribute('textAlignment', 'left')
    content.insert(0, [new Y.XmlText()])
    container.insert(0, [content])
    group.insert(rng(group.length + 1), [container])
  },
  // Quill: one text with formats and embeds, and attributes of the text itself.
  quill (doc, rng) {
    const text = doc.getText('quill')
    text.insert(rng(text.length + 1), ['a', 'bc', 'line\n'][rng(3)], [undefined, { bold: true }][rng(2)])
    if (rng(4) === 0) text.insertEmbed(rng(text.length), { image: 'x' })
    if (rng(4) === 0) text.setAttribute('lang', ['en', 'de'][rng(2)])
    if (rng(3) === 0) text.delete(rng(text.length), 1)
  },
  // Maps of texts, of maps and of arrays: values replaced, typed into and deleted with all that is in them.
  nested (doc, rng) {
    const map = doc.getMap('m')
    const key = 'xyz'[rng(3)]
    const value = map.get(key)
    if (value instanceof Y.Text && rng(4)) return value.insert(rng(value.length + 1), 'deep')
    if (value instanceof Y.Map && rng(4)) return value.set('xyz'[rng(3)], rng(2) ? new Y.Text('deeper') : new Y.Array())
    if (value instanceof Y.Array && rng(4)) return value.insert(rng(value.length + 1), [1, 'two', { three: 3 }, new Y.Text('x')].slice(rng(4)))
    if (rng(6) === 0) return map.delete(key)
    map.set(key, [new Y.Text('text'), new Y.Map([['k', 'v']]), new Y.Array(), 'string', 7, new Uint8Array([1]), null][rng(7)])
  },
  // A Y.Map as a record store (tldraw, Jupyter): the same few keys written all the time, and undone.
  records (doc, rng) {
    const map = doc.getMap('records')
    doc.undo ??= new Y.UndoManager(map, { captureTimeout: 0 })
    if (rng(4) === 0) return doc.undo.undo()
    if (rng(6) === 0) return doc.undo.redo()
    const key = String(rng(4))
    if (rng(5) === 0) map.delete(key)
    else map.set(key, rng(3) ? 'a value longer than one character' : new Y.Map([['text', new Y.Text('t')]]))
  }
}

function random (seed) { // mulberry32
  return below => {
    seed = (seed + 0x6D2B79F5) | 0
    let bits = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits
    return ((bits ^ (bits >>> 14)) >>> 0) % below
  }
}

function write (edit, seed) {
  const rng = random(seed)
  const updates = []
  const docs = [1, 2 ** 31, 2 ** 32 + 5].map(id => {
    const doc = new Y.Doc({ gc: rng(4) > 0 })
    doc.clientID = id
    doc.on('update', (update, origin) => { if (origin !== 'heard') updates.push(update) })
    return doc
  })
  const tell = (from, to) => Y.applyUpdate(to, Y.encodeStateAsUpdate(from, Y.encodeStateVector(to)), 'heard')
  for (let edits = 0; edits < 80; edits++) {
    const doc = docs[rng(3)]
    doc.transact(() => edit(doc, rng))
    if (rng(2)) tell(doc, docs[rng(3)])
    if (rng(20) === 0) updates.push(Y.encodeStateAsUpdate(doc))
    if (rng(20) === 0) updates.push(Y.mergeUpdates(updates.slice(-rng(9) - 1)))
  }
  return updates.map(update => Buffer.from(update).toString('hex'))
}

const written = {}
for (const [name, edit] of Object.entries(SHAPES)) written[name] = [1, 2, 3, 4, 5, 6].map(seed => write(edit, seed))
process.stdout.write(JSON.stringify(written))
