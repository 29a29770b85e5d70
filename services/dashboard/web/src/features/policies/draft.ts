/** A draft on its way from the editor to the playground and back, within this browser's tab. */

export interface Draft {
  yaml: string;
  /** The policy artifact with the vectors that the text names. */
  files: string | null;
}

const KEY = "interpretops.draft";

export function keepDraft(draft: Draft): void {
  sessionStorage.setItem(KEY, JSON.stringify(draft));
}

export function keptDraft(): Draft | null {
  try {
    const found = JSON.parse(sessionStorage.getItem(KEY) ?? "null") as Draft | null;
    return typeof found?.yaml === "string" ? found : null;
  } catch {
    return null;
  }
}

/** The `meta.id` of a policy's text, as far as it can be told without reading all of it. */
export function nameOf(yaml: string): string | null {
  const block = /^meta:\s*\n(?:[ \t]+.*\n|\s*\n)*?[ \t]+id:\s*["']?([\w.-]+)/m.exec(yaml);
  const flow = /^meta:\s*\{[^}]*\bid:\s*["']?([\w.-]+)/m.exec(yaml);
  return block?.[1] ?? flow?.[1] ?? null;
}
