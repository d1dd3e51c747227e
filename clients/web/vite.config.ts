// How the page is built: one document, hashed assets, nothing inline, so that the server's content security policy
// can forbid inline scripts and styles. `npm run dev` passes REST and WebSockets on to a server on port 8000.

import { defineConfig } from "vite"

const server = "http://127.0.0.1:8000"

export default defineConfig({
  build: {
    assetsInlineLimit: 0,
    target: "es2022",
    chunkSizeWarningLimit: 900,
  },
  server: {
    proxy: {
      "/v1": server,
      "/yjs": { target: server, ws: true },
    },
  },
})
