// One of several Hocuspocus servers that share a Redis, as the extension's documentation starts them: each with a name
// of its own, all with the same Redis, nothing stored.
import { Redis } from '@hocuspocus/extension-redis'
import { Server } from '@hocuspocus/server'

const { hostname, port } = new URL(process.env.REDIS_URL)

const server = new Server({
  name: `server-${process.env.BENCHMARK_NODE}`,
  port: Number(process.env.PORT),
  address: '127.0.0.1',
  quiet: true,
  extensions: [new Redis({ host: hostname, port: Number(port) })],
})
await server.listen()
