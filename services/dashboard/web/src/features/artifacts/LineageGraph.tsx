"use client";

import Link from "next/link";

import { api } from "@/api/client";
import { artifactAddress, ArtifactLink } from "@/ui/ArtifactLink";
import { ErrorState } from "@/ui/ErrorState";
import { bytes, moment, shortId } from "@/ui/format";
import { Loading } from "@/ui/Loading";
import { Table } from "@/ui/Table";

import { placed, type Placed } from "./lineage";
import styles from "./LineageGraph.module.css";
import { artifactKindName } from "./names";

const WIDTH = 168;
const HEIGHT = 52;
const GAP_X = 32;
const GAP_Y = 18;

/** All that an artifact was made from, drawn, with the same as a table below. */
export function LineageGraph({ id }: { id: string }) {
  const query = api.useQuery("get", "/artifacts/{artifact_id}/lineage", {
    params: { path: { artifact_id: id } },
  });
  if (query.error) {
    return <ErrorState problem={query.error} retry={() => void query.refetch()} compact />;
  }
  if (!query.data) return <Loading what="the lineage" />;
  const nodes = placed(query.data.artifacts);
  const width = Math.max(...nodes.map(({ column }) => column)) * (WIDTH + GAP_X) + WIDTH + 2;
  const height = Math.max(...nodes.map(({ row }) => row)) * (HEIGHT + GAP_Y) + HEIGHT + 2;
  const at = new Map(nodes.map((node) => [node.artifact.id, node]));
  return (
    <>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls by itself */}
      <div className={styles.scroll} role="region" aria-label="Lineage, drawn" tabIndex={0}>
        <svg
          width={width}
          height={height}
          viewBox={`0 0 ${width} ${height}`}
          role="group"
          aria-label={`What ${id} was made from`}
        >
          {nodes.flatMap((node) =>
            node.artifact.parents.flatMap((parent) => {
              const from = at.get(parent);
              return from ? (
                <path key={`${parent} ${node.artifact.id}`} className={styles.edge} d={curve(from, node)} />
              ) : (
                []
              );
            }),
          )}
          {nodes.map((node) => (
            <foreignObject
              key={node.artifact.id}
              x={left(node)}
              y={top(node)}
              width={WIDTH}
              height={HEIGHT}
            >
              <Link
                href={artifactAddress(node.artifact.id)}
                prefetch={false}
                className={styles.node}
                data-self={node.artifact.id === id || undefined}
                title={node.artifact.id}
              >
                <span>{artifactKindName(node.artifact.kind)}</span>
                <code>{shortId(node.artifact.id)}</code>
              </Link>
            </foreignObject>
          ))}
        </svg>
      </div>
      <details className={styles.table}>
        <summary>As a table</summary>
        <Table
          caption="Lineage"
          rows={query.data.artifacts}
          id={(artifact) => artifact.id}
          columns={[
            { head: "Artifact", cell: ({ id }) => <ArtifactLink id={id} /> },
            { head: "Kind", cell: ({ kind }) => artifactKindName(kind) },
            { head: "Made from", cell: ({ parents }) => parents.map(shortId).join(", ") || "–", wide: true },
            { head: "Made", cell: ({ created_at: at }) => moment(at) },
            { head: "Size", cell: ({ size }) => bytes(size), number: true },
            { head: "SHA-256", cell: ({ sha256 }) => <code title={sha256}>{sha256.slice(0, 12)}…</code> },
          ]}
        />
      </details>
    </>
  );
}

function left({ column }: Placed): number {
  return column * (WIDTH + GAP_X) + 1;
}

function top({ row }: Placed): number {
  return row * (HEIGHT + GAP_Y) + 1;
}

function curve(from: Placed, to: Placed): string {
  const [x1, y1] = [left(from) + WIDTH, top(from) + HEIGHT / 2];
  const [x2, y2] = [left(to), top(to) + HEIGHT / 2];
  const bend = GAP_X * 0.7;
  return `M${x1},${y1}C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`;
}
