// Hands on every request to the port on loopback that the command line names, and compresses the answers as express's
// middleware does by itself. The first line of its output is its own port.

import compression from 'compression';
import express from 'express';
import { request } from 'node:http';

const port = process.argv[2];
const app = express();
app.use(compression());
app.use((asked, answer) => {
  const { method, originalUrl: path, headers } = asked;
  const upstream = request({ host: '127.0.0.1', port, method, path, headers }, (response) => {
    answer.writeHead(response.statusCode, response.headers);
    response.pipe(answer);
  });
  upstream.on('error', () => answer.destroy());
  answer.on('close', () => upstream.destroy());
  asked.pipe(upstream);
});
const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));
