import { setNonce } from "get-nonce";

/** The nonce of this page, for libraries that add styles while the page is open (CodeMirror, Radix). */
export function cspNonce(): string {
  return document.querySelector<HTMLMetaElement>('meta[property="csp-nonce"]')?.content ?? "";
}

/** Let Radix's scroll lock, which adds a style, put the nonce on it. */
export function shareNonce(): void {
  setNonce(cspNonce());
}
