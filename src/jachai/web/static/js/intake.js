// What was dropped or chosen → a list of files with what each seems to be, read from its first bytes on this computer.

const HEAD = 12000;
const BESIDE = /\.(exe|dll|bat|cmd|msi|inf|ini|jar|html?|xml|css|js|ico|pdf|docx?|rtf|txt|log|lnk|chm|md|csv)$/i;
const PICTURE = /\.(png|jpe?g|tiff?)$/i;
const VOLUME = /\.(nii|nii\.gz|mha|mhd|raw|zraw)$/i;
const KEPT_AS_THEY_ARE = /\.(zip)$/i;

/** Every file below what was dropped: [{file, name}]. */
export async function fromDrop(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return fromInput(transfer.files);
  const found = [];
  for (const entry of entries) await walk(entry, "", found);
  return found;
}

export const fromInput = (files) => [...files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));

async function walk(entry, folder, found) {
  const name = folder + entry.name;
  if (entry.isFile) {
    found.push({ file: await new Promise((resolve, reject) => entry.file(resolve, reject)), name });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const child of some) await walk(child, `${name}/`, found);
  }
}

/** What it seems to be: {series: [{modality, count}], index, pictures, volumes, zips, unknown, left: [names], files, bytes}. */
export async function understand(files, onProgress = () => {}) {
  const seen = { series: new Map(), index: 0, pictures: 0, volumes: 0, zips: 0, unknown: 0, left: [], files: [], bytes: 0 };
  for (let n = 0; n < files.length; n += 1) {
    await sort(files[n], seen);
    if (n % 50 === 49) onProgress((n + 1) / files.length);
  }
  return { ...seen, series: [...seen.series.values()].sort((a, b) => b.count - a.count) };
}

async function sort(item, seen) {
  const { file, name } = item;
  const header = file.size > 132 ? dicom(new Uint8Array(await file.slice(0, HEAD).arrayBuffer())) : null;
  if (header) {
    const series = seen.series.get(header.series) ?? { modality: header.modality, count: 0 };
    if (header.index) seen.index += 1;
    else seen.series.set(header.series, { ...series, count: series.count + 1 });
  } else if (file.size === 0 || BESIDE.test(name)) {
    seen.left.push(name);
    return;
  } else if (PICTURE.test(name)) seen.pictures += 1;
  else if (VOLUME.test(name)) seen.volumes += 1;
  else if (KEPT_AS_THEY_ARE.test(name)) seen.zips += 1;
  else seen.unknown += 1;
  seen.files.push(item);
  seen.bytes += file.size;
}

/** Modality and series of a DICOM file (PS3.10 7.1: "DICM" after 128 bytes), null if it is none. */
function dicom(bytes) {
  if (String.fromCharCode(...bytes.subarray(128, 132)) !== "DICM") return null;
  const index = text(bytes, 0x0002, 0x0002).startsWith("1.2.840.10008.1.3.10");
  return { index, modality: text(bytes, 0x0008, 0x0060), series: text(bytes, 0x0020, 0x000e) };
}

/** The short text of one attribute, explicit or implicit VR, little endian; "" where it is not found. */
function text(bytes, group, element) {
  const tag = [group & 255, group >> 8, element & 255, element >> 8];
  for (let at = 132; at + 8 < bytes.length; at += 2) {
    if (tag.some((byte, n) => bytes[at + n] !== byte)) continue;
    const explicit = bytes[at + 4] >= 65 && bytes[at + 4] <= 90 && bytes[at + 5] >= 65 && bytes[at + 5] <= 90;
    const length = explicit ? bytes[at + 6] | (bytes[at + 7] << 8) : bytes[at + 4] | (bytes[at + 5] << 8);
    if (length > 64) continue;
    return String.fromCharCode(...bytes.subarray(at + 8, at + 8 + length)).replace(/[\0 ]+$/, "");
  }
  return "";
}
