/** Where the pages of policies are. */

export function policyLink(name: string, version?: number, tab?: string): string {
  const query = new URLSearchParams({ name });
  if (version !== undefined) query.set("v", String(version));
  if (tab !== undefined) query.set("tab", tab);
  return `/policies/view?${query}`;
}

export function editLink(from: { name: string; version: number } | { artifact: string; file: string }): string {
  const query =
    "name" in from
      ? new URLSearchParams({ name: from.name, from: String(from.version) })
      : new URLSearchParams({ artifact: from.artifact, file: from.file });
  return `/policies/edit?${query}`;
}

export function playLink(policy: string): string {
  return `/playground?${new URLSearchParams({ policy })}`;
}
