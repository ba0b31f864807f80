// Counts what each source stores and removes. No kit: the interface as it stands in
// ../../wit, by which names become camelCase, u64 a BigInt, and lists of numbers arrays.

import { write } from 'penstock:plugin/log@0.1.0';
import { add } from 'penstock:plugin/metrics@0.1.0';

const INFO = 2;
const WORDS = 8; // an event takes so many in `batch.events`
const KINDS = ['stored', 'removed', 'cleared'];

/** Source's number -> what is known of it. */
const sources = new Map();
let only = [];

export const guest = {
  describe() {
    return { name: 'counter-js', version: '0.1.0', columns: 0, stateSchema: 0 };
  },

  // What is thrown as text is the error that the operator sees.
  init(config) {
    const { models = [], ...rest } = JSON.parse(config);
    const [unknown] = Object.keys(rest);
    if (unknown) throw `config: unknown key ${unknown}, expected models`;
    if (!Array.isArray(models)) throw 'config: models: not a list';
    only = models;
  },

  onBatch(batch) {
    const source = sources.get(batch.source);
    if (!source) return [];
    let from = 0;
    for (let at = 0; at < batch.events.length; at += WORDS) {
      const kind = KINDS[batch.events[at] & 0xff];
      const end = batch.events[at + 7];
      if (kind === 'cleared') source.cleared += 1;
      else if (kind) source[kind] += end - from;
      from = end;
    }
    source.batches += 1;
    add('blocks', from);
    return [];
  },

  onSource({ source, kind, first, last, info }) {
    if (kind === 0 && (only.length === 0 || only.includes(info.model))) {
      write(INFO, `counting ${info.name}`);
      sources.set(source, {
        name: info.name, batches: 0, stored: 0, removed: 0, cleared: 0, missing: 0,
      });
    } else if (kind === 1) {
      sources.delete(source);
    } else if (kind === 3 && sources.has(source)) {
      sources.get(source).missing += Number(last) - Number(first) + 1;
    }
  },
};

export const request = {
  handle(body) {
    if (body.length > 0) throw 'the body is empty: all counts are answered';
    const counts = {};
    for (const { name, ...rest } of sources.values()) counts[name] = rest;
    return utf8(JSON.stringify(counts));
  },
};

/** QuickJS has the language alone: no TextEncoder, console, timers or fetch. */
function utf8(text) {
  return Uint8Array.from(unescape(encodeURIComponent(text)), (c) => c.charCodeAt(0));
}
