// Writes what Node's loggers write, and beside each file the minute and level of each of its events.
//     npm i pino winston bunyan && node node.js DIRECTORY
const fs = require('fs');
const out = process.argv[2];
const minute = () => new Date().toISOString().slice(0, 16) + 'Z';
const expected = (name, levels) =>
  fs.writeFileSync(`${out}/${name}.expected`, levels.map(l => `${minute()} ${l}\n`).join(''));
const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'];

const pino = require('pino');
for (const [name, options] of [
  ['pino', {level: 'trace'}],
  ['pino-iso', {level: 'trace', timestamp: pino.stdTimeFunctions.isoTime, formatters: {level: l => ({level: l})}}],
]) {
  const log = pino(options, pino.destination({dest: `${out}/${name}.log`, sync: true, append: false}));
  LEVELS.forEach(l => log[l]({path: '/a?level=error', err: l === 'error' ? new Error('no') : undefined}, 'no error'));
  expected(name, LEVELS);
}

const bunyan = require('bunyan');
fs.rmSync(`${out}/bunyan.log`, {force: true});
const file = fs.openSync(`${out}/bunyan.log`, 'w');
const log = bunyan.createLogger({name: 'shop', level: 'trace', streams: [
  {level: 'trace', type: 'raw', stream: {write: r => fs.writeSync(file, JSON.stringify(r, bunyan.safeCycles()) + '\n')}}]});
LEVELS.forEach(l => log[l]({path: '/a?level=error'}, 'no error'));
expected('bunyan', LEVELS);

const winston = require('winston');
const {combine, timestamp, json, simple, printf} = winston.format;
const npm = {error: 'error', warn: 'warn', info: 'info', http: 'info', verbose: 'debug', debug: 'debug', silly: 'trace'};
for (const [name, format] of [
  ['winston-json', combine(timestamp(), json())],
  ['winston-text', combine(timestamp(), printf(i => `${i.timestamp} ${i.level}: ${i.message}`))],
  ['winston-brackets', combine(timestamp(), printf(i => `${i.timestamp} [${i.level}]: ${i.message}`))],
]) {
  const records = [];
  const {Writable} = require('stream');
  const stream = new Writable({write(chunk, _, done) { records.push(chunk.toString()); done(); }});
  const logger = winston.createLogger({level: 'silly', format, transports: [new winston.transports.Stream({stream})]});
  Object.keys(npm).forEach(l => logger[l]('no error'));
  expected(name, Object.values(npm));
  setImmediate(() => fs.writeFileSync(`${out}/${name}.log`, records.join('')));
}

// What an exception that nobody catches leaves behind a line of text.
const {spawnSync} = require('child_process');
const died = spawnSync(process.execPath, ['-e',
  'console.error(new Date().toISOString() + " ERROR it broke"); function pay() { throw new TypeError("no"); } pay();']);
fs.writeFileSync(`${out}/node-uncaught.log`, died.stderr);
expected('node-uncaught', ['error']);
