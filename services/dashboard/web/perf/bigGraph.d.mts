/** An attribution graph of a wanted size, always the same one. */
export function bigGraph(size: { nodes: number; links: number; layers?: number; seed?: number }): {
  nodes: unknown[];
  links: unknown[];
};
