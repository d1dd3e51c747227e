// Hocuspocus with its SQLite extension, as the extension's documentation starts it.
import { SQLite } from '@hocuspocus/extension-sqlite'
import { Server } from '@hocuspocus/server'

const server = new Server({
  port: Number(process.env.PORT),
  address: '127.0.0.1',
  quiet: true,
  extensions: [new SQLite({ database: 'db.sqlite' })],
})
await server.listen()
