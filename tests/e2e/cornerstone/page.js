// Loads frames with Cornerstone3D, and returns the pixels that it decoded.
import * as core from '@cornerstonejs/core';
import * as loader from '@cornerstonejs/dicom-image-loader';
import { utilities } from '@cornerstonejs/metadata';

const HTJ2K_RPCL = '1.2.840.10008.1.2.4.202';

let headers = {};

window.start = async token => {
  headers = { Authorization: `Bearer ${token}` };
  await core.init();
  loader.init({ maxWebWorkers: 1, wasmBasePath: new URL('.', import.meta.url).href, beforeSend: () => headers });
};

window.metadataOf = async url => (await fetch(url, { headers })).json();

// Cornerstone3D's own loader.
window.loadWadors = async (url, instance) => {
  const imageId = `wadors:${url}`;
  utilities.addDicomWebInstance(imageId, instance);
  return described(await core.imageLoader.loadAndCacheImage(imageId));
};

// A viewer's own requests, decoded by Cornerstone3D. Each range is one request.
window.loadCodestream = async (url, instance, { ranges = [null], decodeLevel } = {}) => {
  const imageId = `codestream:${url}#${ranges}`;
  utilities.addDicomWebInstance(imageId, instance);
  const parts = [];
  let answer;
  for (const range of ranges) {
    answer = await fetch(url, { headers: { ...headers, Accept: 'image/jphc', ...(range ? { Range: range } : {}) } });
    if (answer.status !== (range ? 206 : 200)) throw new Error(`status ${answer.status}`);
    parts.push(new Uint8Array(await answer.arrayBuffer()));
  }
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  const skipped = answer.headers.get('Framegate-Skip-Decompositions');
  const level = decodeLevel ?? Number(skipped);
  const image = await loader.createImage(imageId, bytes, HTJ2K_RPCL, { decodeLevel: level });
  return { ...described(image), bytes: bytes.length, skipped, contentType: answer.headers.get('Content-Type') };
};

// The pixels themselves would take a minute to leave the browser.
function described(image) {
  const pixels = image.getPixelData();
  const bytes = new Uint8Array(pixels.buffer, pixels.byteOffset, pixels.byteLength);
  return { rows: image.rows, columns: image.columns, type: pixels.constructor.name, crc32: crc32(bytes) };
}

const TABLE = Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value >>> 0;
});

function crc32(bytes) {
  let remainder = 0xffffffff;
  for (const byte of bytes) remainder = TABLE[(remainder ^ byte) & 255] ^ (remainder >>> 8);
  return (remainder ^ 0xffffffff) >>> 0;
}

window.ready = true;
