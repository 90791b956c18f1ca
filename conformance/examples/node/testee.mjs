#!/usr/bin/env node
// Starts the door (door.mjs) in a process of its own, with the TLS settings that Node.js takes on its command line only.

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const child = spawn(process.execPath, [`--openssl-config=${here('tls.cnf')}`, here('door.mjs')], { stdio: 'inherit' });
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => process.exit(signal ? 1 : code));
