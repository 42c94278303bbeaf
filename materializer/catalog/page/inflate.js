// Deflate (RFC 1951) undone: blocks of the document are packed, which leaves a tenth of them. The browser's own
// `DecompressionStream` answers later, and a page is drawn at once.

const LENGTHS = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258]; // prettier-ignore
const LENGTH_BITS = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCES = [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577]; // prettier-ignore
const CODE_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

// A Huffman code as a table: the next `bits` bits give the symbol and the length of its code, `symbol << 4 | length`.
function codeTable(lengths) {
  const bits = Math.max(1, ...lengths),
    table = new Uint16Array(1 << bits);
  let code = 0;
  for (let length = 1; length <= bits; length++) {
    for (let symbol = 0; symbol < lengths.length; symbol++) {
      if (lengths[symbol] !== length) continue;
      let turned = 0;
      for (let bit = 0; bit < length; bit++) turned |= ((code >> bit) & 1) << (length - 1 - bit);
      for (let at = turned; at < table.length; at += 1 << length) table[at] = (symbol << 4) | length;
      code++;
    }
    code <<= 1;
  }
  return { table, mask: table.length - 1 };
}
const fixedCodes = once(() => [
  codeTable(Array.from({ length: 288 }, (_, n) => (n < 144 ? 8 : n < 256 ? 9 : n < 280 ? 7 : 8))),
  codeTable(new Array(30).fill(5)),
]);

// The `size` bytes that were packed into these.
function inflate(packed, size) {
  const out = new Uint8Array(size);
  let at = 0,
    end = 0,
    held = 0,
    count = 0;
  const need = (bits) => {
    while (count < bits) {
      held |= packed[at++] << count;
      count += 8;
    }
  };
  const take = (bits) => {
    need(bits);
    const value = held & ((1 << bits) - 1);
    held >>>= bits;
    count -= bits;
    return value;
  };
  const next = ({ table, mask }) => {
    need(15);
    const found = table[held & mask];
    held >>>= found & 15;
    count -= found & 15;
    return found >> 4;
  };
  const codes = () => {
    const literals = take(5) + 257,
      distances = take(5) + 1,
      given = take(4) + 4,
      first = new Array(19).fill(0),
      lengths = [];
    for (let n = 0; n < given; n++) first[CODE_ORDER[n]] = take(3);
    const of = codeTable(first);
    while (lengths.length < literals + distances) {
      const symbol = next(of);
      const [value, times] =
        symbol < 16
          ? [symbol, 1]
          : symbol === 16
            ? [lengths[lengths.length - 1], 3 + take(2)]
            : [0, symbol === 17 ? 3 + take(3) : 11 + take(7)];
      for (let n = 0; n < times; n++) lengths.push(value);
    }
    return [codeTable(lengths.slice(0, literals)), codeTable(lengths.slice(literals))];
  };
  let last = 0;
  while (!last) {
    last = take(1);
    const kind = take(2);
    if (kind === 0) {
      take(count & 7);
      const length = take(16);
      take(16);
      at -= count >> 3; // whole bytes that were held
      held = count = 0;
      out.set(packed.slice(at, at + length), end);
      at += length;
      end += length;
      continue;
    }
    const [literal, distance] = kind === 1 ? fixedCodes() : codes();
    for (;;) {
      const symbol = next(literal);
      if (symbol < 256) {
        out[end++] = symbol;
        continue;
      }
      if (symbol === 256) break;
      const length = LENGTHS[symbol - 257] + take(LENGTH_BITS[symbol - 257]),
        far = next(distance),
        back = DISTANCES[far] + take(far < 4 ? 0 : (far >> 1) - 1);
      for (const stop = end + length; end < stop; end++) out[end] = out[end - back];
    }
  }
  return out;
}

// The JSON of a block of the document.
function blockText(element) {
  const size = element.dataset.bytes;
  if (!size) return element.textContent;
  const packed = Uint8Array.from(atob(element.textContent), (letter) => letter.charCodeAt(0));
  return new TextDecoder().decode(inflate(packed, Number(size)));
}
