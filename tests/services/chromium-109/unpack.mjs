// Unpacks what the package carries, beside this file: the program, and the libraries that it needs as a tar archive.

import { chmodSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { brotliDecompressSync } from 'node:zlib';

for (const name of ['aws.tar', 'chromium']) {
  const packed = new URL(`node_modules/@sparticuz/chromium/bin/${name}.br`, import.meta.url);
  const part = new URL(`${name}.part`, import.meta.url);
  writeFileSync(part, brotliDecompressSync(readFileSync(packed)));
  chmodSync(part, 0o755);
  renameSync(part, new URL(name, import.meta.url));
}
