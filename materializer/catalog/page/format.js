// Numbers, shares, moments and ages as they are read. Ages are as of the build: no clock is read here.

const THIN = '\u202f',
  NBSP = '\u00a0',
  DASH = '\u2013';

function number(value) {
  if (value === null || value === undefined) return DASH;
  if (typeof value !== 'number') return String(value);
  const size = Math.abs(value);
  if (size >= 1e15 || (size && size < 1e-4)) return value.toPrecision(3).replace(/\.?0+e/, 'e');
  if (Number.isInteger(value) || size >= 1000) return String(Math.round(value)).replace(/\B(?=(\d{3})+(?!\d))/g, THIN);
  return String(Number(value.toPrecision(4)));
}

function share(part) {
  if (part === null || part === undefined) return DASH;
  if (part === 0 || part === 1) return `${part * 100}%`;
  if (part < 0.0005) return '<0.1%';
  if (part > 0.9995) return '>99.9%';
  const percent = part * 100;
  return `${percent < 10 ? Number(percent.toFixed(1)) : Math.round(percent)}%`;
}

const PLURALS = { entity: 'entities', query: 'queries' };
const count = (n, word) => `${number(n)} ${n === 1 ? word : PLURALS[word] || word + 's'}`;
const moment = (text) => (text ? `${text.slice(0, 10)} ${text.slice(11, 16)} UTC` : DASH);

function duration(seconds) {
  if (seconds === null || seconds === undefined) return DASH;
  for (const [size, unit] of [
    [86400, 'd'],
    [3600, 'h'],
    [60, 'min'],
  ]) {
    if (seconds >= size) return `${Math.round(seconds / size)}${NBSP}${unit}`;
  }
  return `${seconds < 10 ? Number(seconds.toFixed(1)) : Math.round(seconds)}${NBSP}s`;
}

// Seconds from a moment to the build; null where there is no moment.
function age(text) {
  return text ? Math.max(0, (Date.parse(head.project.built_at) - Date.parse(text)) / 1000) : null;
}

function middle(text, most) {
  if (text.length <= most) return text;
  const left = Math.ceil((most - 1) * 0.55);
  return text.slice(0, left) + '\u2026' + text.slice(text.length - (most - 1 - left));
}

const words = (text) => String(text).replace(/_/g, ' ');
const distinct = (list) => [...new Set(list)];
const total = (list) => list.reduce((sum, value) => sum + value, 0);
const sentence = (text) => text && text[0].toUpperCase() + text.slice(1);

function ownerName(owner) {
  return owner ? owner.name || words(owner.group || owner.email || '') : 'nobody';
}
const ownerKey = (owner) => (owner ? owner.group || owner.name || owner.email : null) || 'nobody';
