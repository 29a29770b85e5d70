/** SHA-256 of some bytes in hexadecimal; null where the browser computes none, as on plain HTTP. */
export async function sha256(content: ArrayBuffer): Promise<string | null> {
  const { subtle } = globalThis.crypto as { subtle?: SubtleCrypto };
  if (subtle === undefined) return null;
  const digest = new Uint8Array(await subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
